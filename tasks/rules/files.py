"""Files as values of JSON: `{"$file": id, "name", "media_type", "bytes", "sha256"}`, and the rules for names and types."""

import re
from collections.abc import Iterator
from mimetypes import guess_type
from typing import Any, Final

from tasks.rules.strict_json import Json

FILE: Final = "$file"
MARK: Final = b'"$file"'
"""JSON text without it has no file."""
MAX_NAME: Final = 255
MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
SHA256: Final = re.compile("[0-9a-f]{64}")
OF_NO_TYPE: Final = "application/octet-stream"
SHOWN: Final = re.compile(
    r"image/(?!svg)[a-z0-9.+-]+|audio/.+|video/.+|application/(pdf|json|zip)|text/(plain|csv|markdown)"
)
"""The types that no browser takes for a page, a script or a style sheet."""


def name_problem(name: str) -> str | None:
    """Return why no file can have this name; None if one can. A name is one part of a path on every system."""
    if not name.strip() or name in (".", ".."):
        return "must be the name of a file, such as report.pdf"
    if "/" in name or "\\" in name:
        return "must be a name without a path: no / and no \\"
    if not name.isprintable():
        return "has a character that cannot be printed"
    if len(name.encode()) > MAX_NAME:
        return f"has more than {MAX_NAME} bytes"
    return None


def media_type_of(name: str, sent: str | None = None) -> str:
    """Return the media type that was sent with a file, without parameters, or the usual one of its name."""
    kind = (sent or "").partition(";")[0].strip().lower()
    return kind if MEDIA_TYPE.fullmatch(kind) else guess_type(name)[0] or OF_NO_TYPE


def safe_type(media_type: str) -> str:
    """Return the type with which a browser gets the file: one that it does not run."""
    return media_type if SHOWN.fullmatch(media_type) else OF_NO_TYPE


def is_file(value: Any) -> bool:
    """Return whether the value names a file."""
    return isinstance(value, dict) and isinstance(value.get(FILE), str)


def files_in(value: Any) -> Iterator[Json]:
    """Yield the files in a JSON value, at any depth."""
    found = [value]
    while found:
        each = found.pop()
        if isinstance(each, dict):
            if is_file(each):
                yield each
            else:
                found.extend(each.values())
        elif isinstance(each, list):
            found.extend(each)


FILE_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {FILE: {"type": "string", "minLength": 1}},
    "required": [FILE],
}
"""The JSON Schema of an input that is a file."""
