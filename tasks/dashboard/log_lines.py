"""Events as lines of a log: their levels, and streamed texts of models in one piece. Pure."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final

from tasks.rules.strict_json import Json
from tasks.rules.words import REASONING, TOKEN, is_reasoning, words_of
from tasks.status import Status


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


def joined(events: Iterable[Json]) -> list[Json]:
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
