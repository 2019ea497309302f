"""Events as lines of a log: their levels, and streamed texts of models in one piece. Pure."""

from collections.abc import Collection, Iterable
from enum import IntEnum
from typing import Any, Final

from tasks.rules.strict_json import Json
from tasks.status import Status

STREAMING: Final = frozenset({"llm_executor"})
"""Executors whose `log` events are the pieces of one text."""


class Level(IntEnum):
    """How much an event matters. A filter shows those of a level and above."""

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
    every = ("task_start", "log", "task_completed", "task_skipped", "task_spawned", *OF_TYPE, *least)
    return [kind for kind in every if least.get(kind, OF_TYPE.get(kind, Level.INFO)) < level]


def is_piece(event: Json, streaming_ids: Collection[str]) -> bool:
    """Whether the event is a piece of the text that a model streams."""
    return event["type"] == "log" and event["result"] is None and event["task_id"] in streaming_ids


def joined(events: Iterable[Json], streaming_ids: Collection[str]) -> list[Json]:
    """Join the pieces of each streamed text, at the place of its first piece. `events` are in order."""
    lines: list[Json] = []
    open_texts: dict[str, Json] = {}
    for event in events:
        task_id = event["task_id"]
        if not is_piece(event, streaming_ids):
            open_texts.pop(task_id, None)
            lines.append(event)
        elif task_id in open_texts:
            open_texts[task_id]["message"] += event["message"]
        else:
            open_texts[task_id] = dict(event)
            lines.append(open_texts[task_id])
    return lines


def as_text(event: Json, name: str) -> str:
    """Return the event as a line of a text file."""
    said: Any = event["error"] or event["message"] or ""
    level = level_of(event).name.ljust(7)
    return f"{event['timestamp']} {level} {event['task_id']} ({name}) {event['type']} {said}".rstrip() + "\n"
