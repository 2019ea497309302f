"""Files as values of JSON: `{"$file": id, "name", "media_type", "bytes", "sha256"}`, and the rules for names and types."""

import re
from collections.abc import Iterator, Mapping, Sequence
from mimetypes import guess_type
from typing import Any, Final

import orjson

from aipartnerupflow.executors.files import FILE_SCHEMA as FILE_SCHEMA
from tasks.rules.strict_json import Json

FILE: Final = "$file"
MARK: Final = b'"$file"'
"""JSON text without it has no file."""
VALUE: Final = "$value"
"""The field of a file that stands for the JSON value which it has: a large one that has been moved."""
VALUE_MARK: Final = b'"$value"'
"""JSON text without it has no moved value."""
PATH: Final = "$path"
"""The field with the steps into the value, if only a part of it is meant."""
FORMAT: Final = "file"
"""The format, in a JSON Schema, of a value that is a file."""
FORMAT_MARK: Final = b'"format":"file"'
NO_FILE: Final = 'must be a file: {"$file": id}'
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
    """Yield the files in a JSON value, at any depth, in their order."""
    found = [value]
    while found:
        each = found.pop()
        if isinstance(each, dict):
            if is_file(each):
                yield each
            else:
                found.extend(reversed(each.values()))
        elif isinstance(each, list):
            found.extend(reversed(each))


def named_once(value: Any) -> list[Json]:
    """Return the files in a JSON value, each once. A value without one costs no more than its encoding."""
    text = orjson.dumps(value)
    return list({file[FILE]: file for file in files_in(orjson.loads(text))}.values()) if MARK in text else []


UPLOAD_VALUES: Final = (
    "Send a large value as a file of JSON (`aipartnerupflow files put FILE`, or POST /files), and name it in its place: "
    'the file as it is returned, with "$value": true'
)


class NoValueAt(Exception):
    """A moved value has no such part. The message says where."""


def is_moved(value: Any) -> bool:
    """Return whether the value stands for a large one that is stored as a file."""
    return is_file(value) and value.get(VALUE) is True


def moved_in(value: Any) -> list[Json]:
    """Return the references to moved values in a JSON value, at any depth."""
    return [value] if is_moved(value) else [file for file in files_in(value) if is_moved(file)]


def given_whole(values: Json) -> Json:
    """Return those of the values that are no references to moved ones: only these can be checked."""
    return {name: value for name, value in values.items() if not is_moved(value)}


def part_of(reference: Json, steps: Sequence[str]) -> Json:
    """Return the reference to a part of a moved value."""
    return reference | {PATH: [*reference.get(PATH, ()), *steps]} if steps else reference


def with_values(value: Any, read: Mapping[str, Any]) -> Any:
    """Return the JSON value with those that were `read`, by the ids of their files, where it or they refer to them. Raises NoValueAt."""
    if is_moved(value):
        is_read = value[FILE] in read
        return with_values(_at(value.get(PATH, ()), read[value[FILE]]), read) if is_read else value
    if isinstance(value, list):
        return [with_values(each, read) for each in value]
    if isinstance(value, dict):
        return {name: with_values(each, read) for name, each in value.items()}
    return value


def _at(steps: Sequence[str], value: Any) -> Any:
    for step in steps:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (LookupError, TypeError, ValueError):
            raise NoValueAt(f"a large value has no '{'.'.join(steps)}'") from None
    return value


def asks_for_file(rule: Any) -> bool:
    """Return whether a schema asks for a file, with `"format": "file"`."""
    return isinstance(rule, dict) and rule.get("format") == FORMAT


def asks_for_files(rule: Any) -> bool:
    """Return whether a schema asks for a list of files."""
    return isinstance(rule, dict) and rule.get("type") == "array" and asks_for_file(rule.get("items"))


def files_asked(schema: Json, value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the values that must be files, with their places: where `properties` and `items` of the schema have the format."""
    if FORMAT_MARK in orjson.dumps(schema):
        yield from _files_asked(schema, value, place)


def _files_asked(schema: Json, value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if asks_for_file(schema):
        if value is not None or "null" not in schema.get("type", ()):
            yield place, value
    elif isinstance(value, dict) and isinstance(rules := schema.get("properties"), dict):
        for name, rule in rules.items():
            if name in value and isinstance(rule, dict):
                yield from _files_asked(rule, value[name], f"{place}.{name[:100]}")
    elif isinstance(value, list) and isinstance(rule := schema.get("items"), dict):
        for number, each in enumerate(value):
            yield from _files_asked(rule, each, f"{place}[{number}]")


def no_files(schema: Json, value: Any, place: str) -> list[tuple[str, str]]:
    """Return (place, reason) of each value that the schema asks to be a file and that is none."""
    asked = files_asked(schema, value, place)
    return [(where, NO_FILE) for where, each in asked if not is_file(each) or is_moved(each)]
