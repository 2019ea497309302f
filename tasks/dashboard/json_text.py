"""Readable JSON: short values stay on one line, longer ones are indented."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

LINE: Final = 96


def written(value: Any, *, width: int = LINE) -> str:
    """Format the value as JSON with lines of about `width` characters. Handles the nesting that requests may have."""
    return "".join(_pieces(value, "", width))


def on_one_line(value: Any) -> str:
    """Format the value on one line, with spaces after commas and colons."""
    if isinstance(value, dict) and value:
        return "{" + ", ".join(f"{_key(key)}: {on_one_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list) and value:
        return "[" + ", ".join(map(on_one_line, value)) + "]"
    return orjson.dumps(value).decode()


def _pieces(value: Any, margin: str, width: int) -> Iterator[str]:
    if not isinstance(value, dict | list) or _fits(value, width - len(margin)):
        yield on_one_line(value)
        return
    inner = f"{margin}  "
    if isinstance(value, dict):
        opening, closing, entries = "{", "}", [(f"{_key(key)}: ", item) for key, item in value.items()]
    else:
        opening, closing, entries = "[", "]", [("", item) for item in value]
    yield f"{opening}\n"
    for number, (head, item) in enumerate(entries, start=1):
        yield f"{inner}{head}"
        yield from _pieces(item, inner, width)
        yield "\n" if number == len(entries) else ",\n"
    yield f"{margin}{closing}"


def _fits(value: Any, width: int) -> bool:
    # orjson is fast and its output is shorter: a value that does not fit there is never formatted on one line.
    return len(orjson.dumps(value)) <= width and len(on_one_line(value)) <= width


def _key(key: str) -> str:
    return orjson.dumps(key).decode()
