"""The log of a run or of one of its tasks: lines made of events, filtered, by pages, and as a file."""

import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.json_text import file_name
from tasks.dashboard.pages import page, render_page
from tasks.models import Run, Task, TaskEvent
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.rules.words import REASONING, TOKEN, is_reasoning, words_of
from tasks.services.trees.queries import get_task
from tasks.status import Status
from tasks.storage import loads


class Level(IntEnum):
    """The importance of an event. A filter shows those of a level and above."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


OF_TYPE: Final = {
    "progress": Level.DEBUG,
    "task_retry": Level.WARNING,
    "task_cancelled": Level.WARNING,
    "task_failed": Level.ERROR,
}
OF_END: Final = {Status.FAILED: Level.ERROR, Status.CANCELLED: Level.WARNING}


def level_of(event: Json) -> Level:
    """Return the level of an event. That of `final` depends on how the run ended."""
    if event["type"] == "final":
        return OF_END.get(event["status"], Level.INFO)
    return OF_TYPE.get(event["type"], Level.INFO)


def types_below(level: Level) -> list[str]:
    """Return the types of events that are always below a level."""
    least = {"final": Level.ERROR}
    every = ("task_start", "log", TOKEN, "task_completed", "task_skipped", "task_spawned", *OF_TYPE, *least)
    return [kind for kind in every if least.get(kind, OF_TYPE.get(kind, Level.INFO)) < level]


def join_words(events: Iterable[Json]) -> list[Json]:
    """Join the words of each model call, at the place of the first. `events` are in order."""
    lines: list[Json] = []
    texts: dict[str, list[str]] = {}
    for event in events:
        pieces = texts.get(words_of(event)) if event["type"] == TOKEN else None
        if pieces is not None:
            pieces.append(event["message"])
            continue
        lines.append(event)
        if event["type"] == TOKEN:
            texts[words_of(event)] = [event["message"]]
    return [line | {"message": "".join(texts[words_of(line)])} if line["type"] == TOKEN else line for line in lines]


def name_in(event: Json, names: Mapping[str, str]) -> str:
    """Return the name of the task by its id, and for words of a model also that of the agent, if it is another one, and
    whether they are its reasoning.
    """
    task_id: str = event["task_id"]
    name = names.get(task_id, task_id)
    agent = event["result"]["agent"] if event["type"] == TOKEN else name
    parts = [name, *([] if agent == name else [agent]), *([REASONING] if is_reasoning(event) else [])]
    return " · ".join(parts)


def as_text(event: Json, name: str) -> str:
    """Return the event as a line of a text file."""
    said: Any = event["error"] or event["message"] or ""
    level = level_of(event).name.ljust(7)
    return f"{event['timestamp']} {level} {event['task_id']} ({name}) {event['type']} {said}".rstrip() + "\n"


PAGE: Final = 200
BATCH: Final = 500
BATCH_BYTES: Final = 2 * 2**20
SEARCH_SECONDS: Final = 0.5
"""A page ends after so long, and says how far it came."""
FORMATS: Final = {"text": ("text/plain", "log"), "ndjson": ("application/x-ndjson", "ndjson")}
MOST_DIGITS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """`task` is a part of a name or id, `before` a sequence number. `run` None: the latest."""

    level: Level = Level.DEBUG
    text: str = ""
    task: str = ""
    before: int | None = None
    run: int | None = None

    def query(self, **changes: str) -> str:
        """Return the URL query for these filters, from the newest event on, with `changes`."""
        level = "" if self.level is Level.DEBUG else self.level.name.lower()
        values = {"level": level, "q": self.text, "task": self.task, "run": str(self.run or "")} | changes
        return urlencode({name: value for name, value in values.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A source of events: all of the run if `task` is a root, otherwise those of the task. `run` None: not run yet."""

    task: Task
    run: Run | None
    names: Mapping[str, str]

    def events(self, filters: Filters) -> QuerySet[TaskEvent]:
        """Return the events that may match."""
        events = TaskEvent.objects.filter(run_id=self.run.id if self.run else "")
        if not self.task.is_root:
            events = events.filter(task_id=self.task.id)
        return events.exclude(type__in=types_below(filters.level))

    def matches(self, event: Json, filters: Filters) -> bool:
        name = self.names.get(event["task_id"], "")
        said = f"{event['message'] or ''}\n{event['error'] or ''}\n{event['type']}"
        return (
            level_of(event) >= filters.level
            and filters.text.lower() in said.lower()
            and filters.task.lower() in f"{name}\n{event['task_id']}".lower()
        )


@page()
async def log(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponseBase:
    """`GET /ui/logs/{id}?level=&q=&task=&run=&before=`: events, newest page first. `format` makes it a file of all."""
    filters = _read_filters(request.GET)
    found = await pools.read(_read_log, caller=caller, task_id=task_id, filters=filters)
    if request.GET.get("format"):
        kind = request.GET["format"]
        content_type, ending = FORMATS[kind]
        response = StreamingHttpResponse(_lines(found, filters, kind), content_type=f"{content_type}; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{file_name(found.task.id, "log", ending)}"'
        return response
    events, older = await pools.read(_read_page, found=found, filters=filters)
    context = {
        "place": "tasks",
        "log": found,
        "filters": filters,
        "events": events,
        "levels": [level.name.lower() for level in Level],
        "older_query": filters.query(before=str(older)) if older else "",
        "newest_query": filters.query(),
        "queries": {name: filters.query(format=name) for name in FORMATS},
    }
    return await render_page(request, caller, "dashboard/log.html", context)


def _read_filters(query: Mapping[str, str]) -> Filters:
    """Raise InvalidParams."""
    level, kind = query.get("level", "").upper(), query.get("format", "")
    numbers = {name: query.get(name, "") for name in ("before", "run")}
    problems = []
    for name, text in numbers.items():
        if text and not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
            problems.append((name, "must be a number"))
    if level and level not in Level.__members__:
        problems.append(("level", f"must be one of {', '.join(each.lower() for each in Level.__members__)}"))
    if kind and kind not in FORMATS:
        problems.append(("format", f"must be one of {', '.join(FORMATS)}"))
    if problems:
        raise InvalidParams(problems)
    before, run = (int(text) if text else None for text in numbers.values())
    return Filters(
        level=Level[level] if level else Level.DEBUG,
        text=query.get("q", "").strip(),
        task=query.get("task", "").strip(),
        before=before,
        run=run,
    )


def _read_log(*, caller: Caller, task_id: str, filters: Filters) -> Log:
    """Raise TaskNotFound."""
    task = get_task(caller=caller, task_id=task_id)
    runs = Run.objects.filter(root_id=task.root_id).order_by("-number")
    tree = Task.objects.tree(task.root_id)
    return Log(
        task=task,
        run=(runs if filters.run is None else runs.filter(number=filters.run)).first(),
        names=dict(tree.values_list("id", "name")),
    )


def _read_page(*, found: Log, filters: Filters) -> tuple[list[Json], int | None]:
    """Return the newest matching events, oldest first, and the number before which to continue."""
    matches: list[Json] = []
    before = None
    until = time.monotonic() + SEARCH_SECONDS
    for event in _backwards(found, filters):
        if len(matches) == PAGE or time.monotonic() > until:
            before = event["seq"] + 1
            break
        if found.matches(event, filters):
            matches.append(event)
    lines = [
        line | {"name": name_in(line, found.names), "level": level_of(line).name.lower()}
        for line in join_words(reversed(matches))
    ]
    return lines, before


def _backwards(found: Log, filters: Filters) -> Iterator[Json]:
    """Yield the events from the newest, or from before `filters.before`."""
    events, before = found.events(filters), filters.before
    while True:
        part = events if before is None else events.filter(seq__lt=before)
        batch = _load(part.order_by("-seq"))
        yield from (event.payload for event in batch)
        if not batch:
            return
        before = batch[-1].seq


def _load(events: QuerySet[TaskEvent]) -> list[TaskEvent]:
    """Load the first of these events: at most BATCH, and no further ones after BATCH_BYTES."""
    sizes = list(events[:BATCH].values_list("id", loads.size_of("payload")))
    before = [0, *accumulate(size for _, size in sizes)][: len(sizes)]
    ids = [event_id for (event_id, _), already in zip(sizes, before, strict=True) if already < BATCH_BYTES]
    rows = TaskEvent.objects.in_bulk(ids)
    return [rows[event_id] for event_id in ids if event_id in rows]


async def _lines(found: Log, filters: Filters, kind: str) -> AsyncGenerator[bytes]:
    """Yield the matching events of the run, oldest first, as far as they have been published by now."""
    after = 0
    while batch := await pools.read(_load, found.events(filters).filter(seq__gt=after).order_by("seq")):
        after = batch[-1].seq
        events = [event.payload for event in batch if found.matches(event.payload, filters)]
        if kind == "ndjson":
            yield b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events)
        else:
            yield "".join(as_text(event, found.names.get(event["task_id"], "")) for event in events).encode()
