"""The program that draws the first pages of a PDF, and prints them as JSON: `{"count": pages, "images": [PNG in base64]}`.

`python pdf_program.py FILE`. Anybody may have written the file, and PDFium is C++: so this runs confined, with limits of its own
(`tasks.dashboard.pdf`). It imports nothing of ours.
"""

import base64
import json
import struct
import sys
import zlib
from typing import Any, Final

import pypdfium2  # type: ignore[import-untyped]

MOST_PAGES: Final = 5
WIDTH: Final = 700
HEIGHT: Final = 1400
"""The largest size of an image, in pixels."""
MOST_BYTES: Final = 4 * 2**20
"""The images together have at most so many, but for the first one."""


def main(path: str) -> None:
    document = pypdfium2.PdfDocument(path)
    images = list[bytes]()
    for number in range(min(len(document), MOST_PAGES)):
        page = document[number]
        width, height = page.get_size()
        image = png(page.render(scale=min(WIDTH / width, HEIGHT / height), rev_byteorder=True))
        if images and sum(map(len, images)) + len(image) > MOST_BYTES:
            break
        images.append(image)
    shown = [base64.b64encode(image).decode() for image in images]
    json.dump({"count": len(document), "images": shown}, sys.stdout)


def png(bitmap: Any) -> bytes:
    """Return a bitmap, RGB or RGBA, as a PNG."""
    size, data = bitmap.width * bitmap.n_channels, bytes(bitmap.buffer)
    rows = b"".join(
        b"\0" + data[start : start + size] for start in range(0, bitmap.stride * bitmap.height, bitmap.stride)
    )
    head = struct.pack(">IIBBBBB", bitmap.width, bitmap.height, 8, {3: 2, 4: 6}[bitmap.n_channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    main(sys.argv[1])
