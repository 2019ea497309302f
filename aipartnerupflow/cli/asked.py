"""Questions of a running tree: the commands that answer them, and the prompt for an answer on a terminal."""

import codecs
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from aipartnerupflow.cli import output, show

if TYPE_CHECKING:
    from aipartnerupflow.client.types import Event

MOST_COMMANDS: Final = 3
"""A question with more options gets one command, and a list of the options."""


class Prompt:
    """The line below a tree on which the person at the terminal types the answer to a question.

    `note` is why the answer before was not taken.
    """

    def __init__(self) -> None:
        self.task_id = ""
        self.note = ""
        self._hint = ""
        self._typed = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def ask(self, task_id: str, question: Mapping[str, Any]) -> None:
        """Ask a question. Text that was typed for another one is dropped."""
        if task_id != self.task_id:
            self.task_id, self.note, self._typed = task_id, "", ""
        options = [output.clean(option) for option in question["options"] or []]
        form = json.dumps(_form(question["schema"]), ensure_ascii=False) if question["schema"] else ""
        self._hint = form or "/".join(options)

    def line(self) -> str:
        return f"{self.note}{'  ' if self.note else ''}Answer{f' [{self._hint}]' if self._hint else ''}: {self._typed}_"

    def take(self, keys: bytes) -> str:
        """Take what was typed. Returns the answer if that ends the line, else an empty text."""
        text = self._decoder.decode(keys)
        if text.startswith("\x1b"):  # an arrow or another key that edits nothing here
            return ""
        for character in text:
            if character in "\r\n":
                answer, self._typed = self._typed.strip(), ""
                return answer
            if character in "\b\x7f":
                self._typed = self._typed[:-1]
            elif character == "\x15":  # Ctrl+U
                self._typed = ""
            elif character.isprintable():
                self._typed += character
        return ""


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
