"""Previews of files: from their first bytes only, and whatever a sender calls them."""

import struct
import zlib

import pytest

from tasks.rules.previews import IMAGE_BYTES, LINES, ROWS, TEXT_BYTES, Preview, bytes_for, image_in, preview_of


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + before + frame + b"\xff\xd9"


def segment(size: int) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", size + 2) + bytes(size)


def webp(kind: bytes, rest: bytes) -> bytes:
    return b"RIFF" + bytes(4) + b"WEBP" + kind + struct.pack("<I", len(rest)) + rest + bytes(10)


def shown(data: bytes, media_type: str, name: str = "a") -> Preview:
    return preview_of(data[: bytes_for(media_type)], name=name, media_type=media_type, size=len(data))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(3, 5), ("image/png", 15)),
        (b"GIF89a" + struct.pack("<HH", 3, 5), ("image/gif", 15)),
        (jpeg(3, 5), ("image/jpeg", 15)),
        (jpeg(3, 5, before=segment(60_000) * 3), ("image/jpeg", 15)),
        (webp(b"VP8X", bytes(4) + b"\x02\0\0" + b"\x04\0\0"), ("image/webp", 15)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 2 | 4 << 14)), ("image/webp", 15)),
        (webp(b"VP8 ", bytes(6) + struct.pack("<HH", 3, 5)), ("image/webp", 15)),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\xff\xd8\xff", None),
        (b"\xff\xd8" + b"\xff" * 50, None),
        (b"\xff\xd8" + b"\xff\xe1\0\0" * 50, None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"", None),
    ],
)
def test_an_image_is_known_by_its_first_bytes(data: bytes, found: tuple[str, int] | None) -> None:
    assert image_in(data) == found


@pytest.mark.parametrize(
    ("data", "media_type", "kind", "reason"),
    [
        (png(3, 5), "image/png", "image", ""),
        (png(3, 5), "image/jpeg", "nothing", "It is called image/jpeg, and begins as image/png."),
        (png(100_000, 100_000), "image/png", "nothing", "The image is too large to show: 10,000 million pixels."),
        (b"GIF89a=1;alert(1)//", "text/html", "text", ""),
        (png(3, 5), "text/html", "nothing", "There is no preview of this type."),
        (b"<script>alert(1)</script>", "image/png", "text", ""),
        (b"<svg onload='alert(1)'/>", "image/svg+xml", "text", ""),
        (b"\x1f\x8b\x08\0\0\0", "text/plain", "nothing", "There is no preview of this type."),
        (b"%PDF-1.7", "application/pdf", "nothing", "A PDF is shown by your own viewer, once it is downloaded."),
        (b"ID3", "audio/mpeg", "audio", ""),
        (b"", "text/csv", "text", ""),
        (b"plain", "application/octet-stream", "text", ""),
        (b"\xff\xfe\x01", "text/plain", "nothing", "There is no preview of this type."),
    ],
)
def test_what_is_shown_is_harmless(data: bytes, media_type: str, kind: str, reason: str) -> None:
    found = shown(data, media_type)
    assert (found.kind, found.reason) == (kind, reason)


def test_of_a_table_the_first_rows_are_read() -> None:
    found = shown('\ufeffname;size\n"Å; b";2\n'.encode(), "text/csv")
    assert (found.kind, found.rows, found.is_cut) == ("table", [["name", "size"], ["Å; b", "2"]], False)
    long = b"".join(b"%d,%s\n" % (number, b"x" * 500) for number in range(100_000))
    found = shown(long, "application/octet-stream", name="LONG.CSV")
    assert found.rows is not None
    assert (len(found.rows), found.is_cut) == (ROWS, True)
    assert [len(cell) for cell in found.rows[0]] == [1, 200]
    found = shown("ä,".encode() * TEXT_BYTES, "text/csv")
    assert found.rows is not None
    assert (len(found.rows[0]), found.is_cut) == (12, True)


def test_of_a_text_the_first_lines_are_shown() -> None:
    found = shown("\n".join(f"line {number} é" for number in range(10_000)).encode(), "text/plain")
    assert found.lines is not None
    assert (found.lines[0], len(found.lines), found.is_cut) == ("line 0 é", LINES, True)
    found = shown(b'{"a": 1}\n', "application/json")
    assert (found.lines, found.is_cut) == (['{"a": 1}'], False)
    cut = shown("é".encode() * TEXT_BYTES, "text/plain")  # in the middle of a character, and longer than a line may be
    assert (cut.kind, cut.is_cut) == ("text", True)


def test_only_the_first_bytes_are_needed() -> None:
    assert [bytes_for(kind) for kind in ("image/png", "text/csv", "audio/mpeg")] == [IMAGE_BYTES, TEXT_BYTES, 0]
