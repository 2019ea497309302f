"""PDFs for tests, written by hand."""

import zlib


def pdf(*contents: bytes, size: tuple[float, float] = (350, 500), more: bytes = b"") -> bytes:
    """A PDF with a page for each of these content streams, of this size in points. `more` are entries of each page."""
    kids = " ".join(f"{2 * number + 3} 0 R" for number in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
    ]
    for number, content in enumerate(contents):
        box = f"/MediaBox [0 0 {size[0]} {size[1]}] /Contents {2 * number + 4} 0 R".encode()
        font = b"/Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
        data = zlib.compress(content)
        objects.append(b"<< /Type /Page /Parent 2 0 R " + box + font + more + b" >>")
        objects.append(b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (len(data), data))
    body, places = b"%PDF-1.7\n", list[int]()
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj %s endobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return (
        body
        + head
        + table
        + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(body))
    )


def page(text: str) -> bytes:
    """A page with a red stripe at its top, and a text."""
    return f"1 0 0 rg 0 450 350 50 re f 0 g BT /F 24 Tf 20 300 Td ({text}) Tj ET".encode()
