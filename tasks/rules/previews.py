"""Previews of files, from their first bytes: nothing of a file runs, is decompressed, or is read further. Pure.

Pages of a PDF are drawn by `tasks.dashboard.pdf`.
"""

import codecs
import csv
import struct
from dataclasses import dataclass
from typing import Final

TEXT_BYTES: Final = 16_384
IMAGE_BYTES: Final = 262_144
"""The size of an image may come after as much as this of other facts."""
MOST_PIXELS: Final = 50_000_000
"""A browser takes 200 MB of memory for so many; a file of some kilobytes may have more."""
LARGEST_IMAGE: Final = 32 * 2**20
LINES: Final = 40
ROWS: Final = 20
COLUMNS: Final = 12
LONGEST: Final = 200
"""The most characters of a line, or a cell, that are shown."""
PDF: Final = "application/pdf"
NO_PDF: Final = "A PDF is shown by your own viewer, once it is downloaded."
PNG: Final = b"\x89PNG\r\n\x1a\n"
JPEG: Final = b"\xff\xd8\xff"
NO_SIZE: Final = (0x01, *range(0xD0, 0xDA))
"""Markers of JPEG that no length follows."""
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG with the height and the width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`kind`: image, audio, table, text, pages, or nothing, for the `reason`. `is_cut`: the file has more than is shown.

    `pages` are images, PNG in base64, of a document that has `count` pages.
    """

    kind: str
    reason: str = ""
    lines: list[str] | None = None
    rows: list[list[str]] | None = None
    pages: list[str] | None = None
    count: int = 0
    is_cut: bool = False


def bytes_for(media_type: str) -> int:
    """Return how many of the first bytes of a file `preview_of` needs."""
    return IMAGE_BYTES if media_type.startswith("image/") else 0 if is_audio(media_type) else TEXT_BYTES


def is_audio(media_type: str) -> bool:
    return media_type.startswith("audio/")


def preview_of(head: bytes, *, name: str, media_type: str, size: int) -> Preview:
    """Return what is shown of a file with these first bytes. Its type is that of its sender: an image must also begin as one."""
    if is_audio(media_type):
        return Preview(kind="audio")
    if media_type == PDF:
        return Preview(kind="nothing", reason=NO_PDF)
    if media_type.startswith("image/") and (found := image_in(head)) is not None:
        kind, pixels = found
        if kind != media_type:
            return Preview(kind="nothing", reason=f"It is called {media_type}, and begins as {kind}.")
        if pixels > MOST_PIXELS or size > LARGEST_IMAGE:
            return Preview(
                kind="nothing", reason=f"The image is too large to show: {pixels / 1e6:,.0f} million pixels."
            )
        return Preview(kind="image")
    text = _text_in(head[:TEXT_BYTES], is_whole=size <= TEXT_BYTES)
    if text is None:
        return Preview(kind="nothing", reason="There is no preview of this type.")
    is_whole = size <= TEXT_BYTES
    is_table = media_type in ("text/csv", "text/tab-separated-values") or name.lower().endswith((".csv", ".tsv"))
    if is_table and (table := _rows_in(text, is_whole=is_whole)) is not None:
        return table
    lines = text.splitlines()
    shown = [line if len(line) <= LONGEST else f"{line[:LONGEST]}…" for line in lines[:LINES]]
    is_cut = not is_whole or len(lines) > LINES or any(len(line) > LONGEST for line in lines)
    return Preview(kind="text", lines=shown, is_cut=is_cut)


def image_in(head: bytes) -> tuple[str, int] | None:
    """Return the media type and the number of pixels of the raster image that begins so; None if none does."""
    if head.startswith(PNG) and len(head) >= 24:
        return "image/png", _area(*struct.unpack(">II", head[16:24]))
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        return "image/gif", _area(*struct.unpack("<HH", head[6:10]))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return "image/webp", _area(*_of_webp(head))
    if head.startswith(JPEG) and (size := _of_jpeg(head)) is not None:
        return "image/jpeg", _area(*size)
    return None


def _area(width: int, height: int) -> int:
    return width * height


def _of_webp(head: bytes) -> tuple[int, int]:
    """Return the width and the height (RFC 9649, section 2)."""
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _of_jpeg(head: bytes) -> tuple[int, int] | None:
    """Return the height and the width (ITU T.81, B.2.2); None if they are not among these bytes."""
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in FRAMES:
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return height, width
        at += 1 if marker == 0xFF else 2 if marker in NO_SIZE else 2 + int.from_bytes(head[at + 2 : at + 4])
    return None


def _text_in(head: bytes, *, is_whole: bool) -> str | None:
    """Return the text, without a last character that is cut; None if it is no UTF-8, or has control characters."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=is_whole)
    except UnicodeDecodeError:
        return None
    return None if any(character < " " and character not in "\t\n\r\f\x1b" for character in text) else text


def _rows_in(text: str, *, is_whole: bool) -> Preview | None:
    """Return the first rows; None if it is no table. The delimiter is the one that the first line has most often."""
    lines = text.splitlines(keepends=True)
    complete = lines if is_whole or len(lines) < 2 else lines[:-1]
    delimiter = max(",;\t|", key=lines[0].count) if lines else ","
    try:
        rows = [row for _, row in zip(range(ROWS + 1), csv.reader(complete, delimiter=delimiter), strict=False)]
    except csv.Error:
        return None
    if not rows:
        return None
    shown = [[cell[:LONGEST] for cell in row[:COLUMNS]] for row in rows[:ROWS]]
    is_cut = not is_whole or len(rows) > ROWS or any(len(row) > COLUMNS for row in rows)
    return Preview(kind="table", rows=shown, is_cut=is_cut)
