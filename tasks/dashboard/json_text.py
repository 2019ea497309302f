"""Readable JSON: short values stay on one line, longer ones are indented."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
from django.http import HttpRequest, HttpResponse

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.pages import page
from tasks.services.history.task_detail import detail
from tasks.services.secrets.write_only import for_pages
from tasks.services.trees.queries import get_task

LINE: Final = 96
MAX_CHARACTERS: Final = 20_000


def format_json(value: Any, *, width: int = LINE, max_characters: int | None = None) -> str:
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


def beginning(value: Any, width: int) -> str:
    """Format JSON for reading, and no more than a little over MAX_CHARACTERS of it. A string stays unchanged."""
    return value if isinstance(value, str) else format_json(value, width=width, max_characters=MAX_CHARACTERS)


def pretty(value: Any, width: int = 80) -> str:
    """Format JSON for reading. A string stays unchanged; a very long text is cut."""
    text = beginning(value, width)
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}\n… The rest is left out. Use tasks.get to read all."


def on_one_line(value: Any) -> str:
    """Format the value on one line, with spaces after commas and colons."""
    if isinstance(value, dict) and value:
        return "{" + ", ".join(f"{_key(key)}: {on_one_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list) and value:
        return "[" + ", ".join(map(on_one_line, value)) + "]"
    return orjson.dumps(value).decode()


def _pieces(value: Any, margin: str, width: int) -> Iterator[str]:
    room = width - len(margin)
    is_single = not isinstance(value, dict | list)
    # The second is quick for any value: a large one is not formatted at each of its levels.
    if is_single or (_room_after(value, room) >= 0 and len(on_one_line(value)) <= room):
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


KINDS: Final = ("result", "inputs", "resolved", "params", "schemas")
UNSAFE: Final = re.compile(r"[^\w.-]+", re.ASCII)
LONGEST_NAME: Final = 60


@page()
async def value(request: HttpRequest, caller: Caller, kind: str, task_id: str) -> HttpResponse:
    """`GET /ui/value/{kind}/{id}`: a value as JSON, or as text if it is one. `?download` makes browsers store it."""

    def read() -> Any:
        if kind == "resolved":
            found = detail(caller=caller, task_id=task_id, is_page=True)
            return None if found.resolved_inputs is None else for_pages(found.task, found.resolved_inputs)
        task = get_task(caller=caller, task_id=task_id)
        return for_pages(task, task.inputs) if kind == "inputs" else getattr(task, kind)

    found = await pools.read(read)
    is_text = isinstance(found, str)
    body = found.encode() if is_text else orjson.dumps(found, option=orjson.OPT_INDENT_2)
    response = HttpResponse(body, content_type=f"{'text/plain' if is_text else 'application/json'}; charset=utf-8")
    if "download" in request.GET:
        name = file_name(task_id, kind, "txt" if is_text else "json")
        response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def file_name(task_id: str, kind: str, ending: str) -> str:
    """Return a name for a file about a task, whose id may contain any character."""
    return f"{UNSAFE.sub('-', task_id)[:LONGEST_NAME]}-{kind}.{ending}"
