"""What a running tree asks, and the commands that answer it."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from aipartnerupflow.cli import output, show

if TYPE_CHECKING:
    from aipartnerupflow.client.types import Event

MOST_COMMANDS: Final = 3
"""A question with more options gets one command, and a list of the options."""


def question_in(event: "Event") -> Mapping[str, Any] | None:
    """Return the question that the event asks or repeats: `text`, `options` and `schema`. None: it asks nothing."""
    asked = event["result"]
    is_question = event["type"] == "log" and isinstance(asked, dict) and asked.get("required") == "input"
    return asked if is_question else None


def lines_of(task_id: str, name: str, question: Mapping[str, Any]) -> Iterator[str]:
    """Yield the question, and below it the commands to choose from."""
    yield f"{output.clean(name)} asks: {output.clean(question['text'])}"
    yield from (f"  {each}" for each in _commands(task_id, question))


def _commands(task_id: str, question: Mapping[str, Any]) -> Iterator[str]:
    options = [output.clean(option) for option in question["options"] or []]
    if question["schema"]:
        yield show.command("answer", task_id, json.dumps(_form(question["schema"]), ensure_ascii=False))
    elif not options:
        yield show.command("answer", task_id, "TEXT")
    elif len(options) <= MOST_COMMANDS:
        yield from (show.command("answer", task_id, option) for option in options)
    else:
        yield f"{show.command('answer', task_id, 'ANSWER')}, which is one of: {', '.join(map(shlex.quote, options))}"


def _form(schema: Mapping[str, Any]) -> dict[str, str]:
    return dict.fromkeys(schema.get("properties", {}), "…")
