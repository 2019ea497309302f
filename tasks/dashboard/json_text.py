"""Readable JSON: short values stay on one line, longer ones are indented."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

LINE: Final = 96


def written(value: Any, *, width: int = LINE, max_characters: int | None = None) -> str:
    """Format the value as JSON with lines of about `width` characters. Handles the nesting that requests may have.

    Ends early after `max_characters`: a page shows the beginning of a result, which may have megabytes.
    """
    pieces: list[str] = []
    left = max_characters
    for piece in _pieces(value, "", width):
        pieces.append(piece)
        if left is not None and (left := left - len(piece)) < 0:
            break
    return "".join(pieces)


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
    # The first is quick for any value: a large one is not formatted at each of its levels.
    return _room_after(value, width) >= 0 and len(on_one_line(value)) <= width


def _room_after(value: Any, room: int) -> int:
    """Return how much of `room` is left at most after the value; negative as soon as it is used up."""
    if isinstance(value, str):
        return room - len(value)
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = (("", item) for item in value)
    room -= 1
    for key, item in items:
        if room < 0:
            break
        room = _room_after(item, room - len(key))
    return room


def _key(key: str) -> str:
    return orjson.dumps(key).decode()
