"""Views of a running tree.

Animated on a terminal, lines of text on a terminal without animation, NDJSON elsewhere.
"""

import codecs
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from aipartnerupflow.cli import output, show
from aipartnerupflow.growth import ENDED, HANDLED, NOT_RUN, Growth, growth_of, looks, shown_status, with_copies

if TYPE_CHECKING:
    from aipartnerupflow.client.types import Event, Task

MOST_COMMANDS: Final = 3
"""A question with more options gets one command, and a list of the options."""
REFRESH_PER_SECOND: Final = 10
BAR_WIDTH: Final = 20
LINES_AROUND: Final = 3
"""Lines of the terminal that are not available for tasks."""
MOST_QUESTIONS: Final = 2
LINES_OF_QUESTION: Final = 4
MOST_INTERESTING_FIRST: Final = (
    "in_progress",
    "failed",
    "cancelled",
    NOT_RUN,
    "pending",
    HANDLED,
    "completed",
    "skipped",
)


class Prompt:
    """The line below a tree on which the person at the terminal types the answer to a question: of a form, field by field.

    `note` is why the answer before was not taken.
    """

    def __init__(self) -> None:
        self.task_id = ""
        self.note = ""
        self._hint = ""
        self._typed = ""
        self._form: Mapping[str, Any] = {}
        self._filled: dict[str, Any] = {}
        self._fields: list[str] = []
        """The fields that are still to be asked."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def ask(self, task_id: str, question: Mapping[str, Any]) -> None:
        """Ask a question. Text that was typed for another one is dropped."""
        if task_id != self.task_id:
            self.task_id, self.note, self._typed, self._fields = task_id, "", "", []
        self._hint = "/".join(output.clean(option) for option in question["options"] or [])
        self._form = question["schema"] or {}
        if self._form and not self._fields:
            self._fields, self._filled = list(self._form["properties"]), {}

    def line(self) -> str:
        asked = f"Answer{f' [{self._hint}]' if self._hint else ''}" if not self._fields else self._field()
        return f"{self.note}{'  ' if self.note else ''}{asked}: {self._typed}_"

    def _field(self) -> str:
        """Describe the field that is asked: its title, its values, and what an empty answer means."""
        name, count = self._fields[0], len(self._form["properties"])
        rule = self._form["properties"][name]
        kind = "/".join(map(_as_typed, rule["enum"])) if "enum" in rule else KINDS.get(rule["type"], rule["type"])
        if "default" in rule:
            kind += f"; empty: {_as_typed(rule['default'])}"
        elif name not in self._form.get("required", []):
            kind += "; may be empty"
        return output.clean(f"{count - len(self._fields) + 1}/{count} {rule.get('title') or name} [{kind}]")

    def take(self, keys: bytes) -> Any:
        """Take what was typed. Returns the answer if that ends the line and, of a form, was the last field; else None."""
        text = self._decoder.decode(keys)
        if text.startswith("\x1b"):  # an arrow or another key that edits nothing here
            return None
        for character in text:
            if character in "\r\n":
                line, self._typed = self._typed.strip(), ""
                answer = self._fill(line) if self._fields else line or None
                if answer is not None:
                    return answer
            elif character in "\b\x7f":
                self._typed = self._typed[:-1]
            elif character == "\x15":  # Ctrl+U
                self._typed = ""
            elif character.isprintable():
                self._typed += character
        return None

    def _fill(self, line: str) -> Any:
        """Fill the field that is asked with a line, or the whole form with a JSON object. Returns the answer when it is whole."""
        from tasks.rules.forms import filled_form

        name, *others = self._fields
        if line.startswith("{") and not self._filled:
            try:
                answer = json.loads(line)
            except ValueError as error:
                self.note = f"This is not JSON: {error}."
                return None
            self._fields = []
            return answer
        rule = self._form["properties"][name]
        given = {name: _value_of(line, rule)} if line else {}
        alone = {"properties": {name: rule}, "required": [name] if name in self._form.get("required", []) else []}
        _, problems = filled_form(alone, given)
        self.note = output.clean("".join(f"{name}: {reason}." for _, reason in problems))
        if problems:
            return None
        self._filled |= given
        self._fields = others
        return None if others else self._filled


KINDS: Final = {"string": "text", "boolean": "yes/no"}
"""Type of a field → its word, unless it is the same."""
BOOLEANS: Final = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


def _as_typed(value: Any) -> str:
    """Return the text that a person types for a value of a form."""
    return ("yes" if value else "no") if isinstance(value, bool) else value if isinstance(value, str) else str(value)


def _value_of(line: str, rule: Mapping[str, Any]) -> Any:
    """Return the value that a person means, of the type of the field; if there is none, the text, which the form refuses."""
    if "enum" in rule:
        return next((each for each in rule["enum"] if _as_typed(each) == line), line)
    if rule["type"] == "boolean":
        return BOOLEANS.get(line.lower(), line)
    if rule["type"] in ("number", "integer"):
        try:
            return json.loads(line)
        except ValueError:
            return line
    return line


def question_in(event: "Event") -> Mapping[str, Any] | None:
    """Return the question that the event asks or repeats: `text`, `options` and `schema`. None: it asks nothing."""
    asked = event["result"]
    is_question = event["type"] == "log" and isinstance(asked, dict) and asked.get("required") == "input"
    return asked if is_question else None


def lines_of(task_id: str, name: str, question: Mapping[str, Any]) -> Iterator[str]:
    """Yield the question, and below it the commands to choose from."""
    yield f"{output.clean(name)} asks: {output.clean(question['text'])}"
    options = [output.clean(option) for option in question["options"] or []]
    more = ""
    if question["schema"]:
        answers = [json.dumps(_form(question["schema"]), ensure_ascii=False)]
    elif len(options) <= MOST_COMMANDS:
        answers = options or ["TEXT"]
    else:
        answers, more = ["ANSWER"], f", which is one of: {', '.join(map(shlex.quote, options))}"
    yield from (f"  {show.command('answer', task_id, answer)}{more}" for answer in answers)


def _form(schema: Mapping[str, Any]) -> dict[str, str]:
    return dict.fromkeys(schema.get("properties", {}), "…")


class View(AbstractContextManager["View", None]):
    """Base class of the views. It ignores events."""

    is_tree = False
    """Whether the view shows all tasks, also those that are added meanwhile."""

    def tell(self, event: "Event") -> None:
        """Show the next event of the run."""

    def grow(self, root: "Task") -> None:
        """Take the tree as it is now, with tasks that have been added."""

    def __exit__(self, *_: object) -> None:
        """Close the view."""


class Questions(View):
    """Prints what is asked, to the standard error output. Without it, a run that asks would seem to hang."""

    def __init__(self, root: "Task") -> None:
        self._names = names_of(root)

    def tell(self, event: "Event") -> None:
        if question := question_in(event):
            task_id = event["task_id"]
            output.note(*lines_of(task_id, self._names.get(task_id, task_id), question))


class JsonLines(Questions):
    """Also prints each event as one line of JSON (NDJSON)."""

    def tell(self, event: "Event") -> None:
        output.as_lines(event)
        super().tell(event)


class Lines(View):
    """Prints each event as a line: progress of the tree, type of event, task and details."""

    def __init__(self, root: "Task") -> None:
        self._names = names_of(root)
        self._out = output.out()

    def tell(self, event: "Event") -> None:
        if event["type"] == "final":
            return
        detail = output.clean(event["error"] or event["message"] or "")
        what = "not run" if event.get("not_run") else event["type"].removeprefix("task_")
        name = self._names.get(event["task_id"], event["task_id"])
        self._out.print(
            f"{event['tree_progress']:>4.0%}  {what:<9}  {name}{'  ' if detail else ''}{detail}", soft_wrap=True
        )
        if question := question_in(event):
            self._out.print(*lines_of(event["task_id"], name, question), sep="\n", soft_wrap=True)


def names_of(root: "Task") -> dict[str, str]:
    """Task id → name. Tasks that share a name get their id added."""
    tasks = [task for task, _ in show.walk(root)]
    times = Counter(task["name"] for task in tasks)
    return {
        task["id"]: output.clean(task["name"] if times[task["name"]] == 1 else f"{task['name']} ({task['id']})")
        for task in tasks
    }


@dataclass(slots=True, kw_only=True)
class Row:
    """A task on the terminal. Times are POSIX timestamps of the server's clock, in seconds."""

    task_id: str
    name: str
    guides: str
    status: str
    progress: float
    detail: str = ""
    params: Mapping[str, Any] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    growth: Growth | None = None
    is_quiet: bool = False
    """Whether the row is one of many parts, and is shown only if it has failed."""

    def tell(self, event: "Event") -> None:
        self.status, self.progress = shown_status({**event, "params": self.params}), event["progress"]
        detail = "needs an answer" if question_in(event) else event["error"] or event["message"] or ""
        self.detail = output.clean(detail)  # a question is whole below the tree
        at = _seconds(event["timestamp"])
        if event["type"] == "task_start":
            self.started_at, self.ended_at = at, None
        elif self.status in ENDED:
            self.ended_at = at

    def cells(self, look: str, summary: str) -> Iterator[RenderableType]:
        """Yield the cells of the row. `look` is the status that people see, and `summary` says how far its parts are."""
        is_pending = look in ("pending", NOT_RUN)
        name = Text(self.name, "bright_black" if is_pending else "")
        yield Text.assemble((self.guides, "bright_black"), show.sign(look), " ", name)
        yield "" if is_pending else _bar(look, self.progress)
        yield "" if is_pending else f"{self.progress:.0%}"
        duration = ""
        if self.started_at is not None:
            duration = f"{max((self.ended_at or time.time()) - self.started_at, 0):.1f} s"
        yield Text(duration, "bright_black")
        detail = Text(self.detail, "red" if self.status == "failed" else "bright_black")
        yield Text.assemble((summary, "bright_black"), "  " if summary and self.detail else "", detail)


class LiveTree(View):
    """Redraws the whole tree in place; with `is_brief` only the summary line."""

    is_tree = True

    def __init__(self, root: "Task", *, is_brief: bool) -> None:
        self._rows = _rows_of(root)
        self._root = {**root, "run_status": "in_progress"}
        self._early: dict[str, Event] = {}
        self._asked: dict[str, Mapping[str, Any]] = {}
        self.prompt: Prompt | None = None
        self._is_brief = is_brief
        self._progress = root["progress"]
        self._out = output.out()
        self._live = Live(
            console=self._out, get_renderable=self.render, refresh_per_second=REFRESH_PER_SECOND, transient=is_brief
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)

    def tell(self, event: "Event") -> None:
        self._progress = event["tree_progress"]
        if event["type"] == "final":
            self._root["run_status"] = event["status"]
            return
        task_id = event["task_id"]
        self._asked.pop(task_id, None)
        if question := question_in(event):
            self._asked[task_id] = question
        if row := self._rows.get(event["task_id"]):
            row.tell(event)
        else:
            self._early[event["task_id"]] = event

    def grow(self, root: "Task") -> None:
        """Add rows for new tasks. The others know more than the tree: events have reached them since."""
        rows = _rows_of(root)
        for task_id, row in rows.items():
            if known := self._rows.get(task_id):
                known.guides, known.growth, known.is_quiet = row.guides, row.growth, row.is_quiet
                rows[task_id] = known
            elif early := self._early.pop(task_id, None):
                row.tell(early)
        self._rows, self._root = rows, {**root, "run_status": self._root["run_status"]}

    def render(self) -> RenderableType:
        """Return the content of the terminal."""
        all_rows = list(self._rows.values())
        questions = list(self._questions())
        if self._is_brief:
            return Group(self._summary(all_rows), *questions)
        rows = [row for row in all_rows if not row.is_quiet or row.status == "failed"]
        shown = most_interesting(rows, self._out.height - LINES_AROUND - len(questions))
        table = Table.grid(
            Column(no_wrap=True, overflow="ellipsis", ratio=3),
            Column(width=min(BAR_WIDTH, self._out.width // 10)),
            Column(width=4, justify="right"),
            Column(width=8, justify="right"),
            Column(no_wrap=True, overflow="ellipsis", ratio=2),
            padding=(0, 1),
            expand=True,
        )
        statuses = {task_id: row.status for task_id, row in self._rows.items()}
        seen = looks(self._root, statuses)
        for row in shown:
            summary = "" if row.growth is None else row.growth.summary(statuses)
            table.add_row(*row.cells(seen[row.task_id], summary))
        hidden = len(rows) - len(shown)
        more = [Text(f"… and {hidden:,} more", "bright_black")] if hidden else []
        return Group(table, *more, self._summary(all_rows), *questions)

    def _questions(self) -> Iterator[Text]:
        """Yield the oldest questions in lines of the terminal's width, with the commands that answer them.

        With a prompt, it is below the oldest, in place of the commands.
        """
        for number, (task_id, question) in enumerate(list(self._asked.items())[:MOST_QUESTIONS]):
            row = self._rows.get(task_id)
            first, *commands = lines_of(task_id, row.name if row else task_id, question)
            yield from Text(f"? {first}", "bold").wrap(self._out, self._out.width)[:LINES_OF_QUESTION]
            if self.prompt is None:
                yield from (line for each in commands for line in Text(each).wrap(self._out, self._out.width))
            elif number == 0:
                self.prompt.ask(task_id, question)
                yield from Text(self.prompt.line()).wrap(self._out, self._out.width)

    def asking(self) -> str | None:
        """Return the id of the task that the prompt is about; None if nothing is asked."""
        return next(iter(self._asked), None)

    def _summary(self, rows: list[Row]) -> RenderableType:
        """Return the progress bar of the tree, and the number of tasks in each status."""
        counted = Counter(row.status for row in rows)
        numbers = [
            f"{counted[status]:,} {status.replace('_', ' ')}" for status in MOST_INTERESTING_FIRST if counted[status]
        ]
        line = Table.grid(
            Column(width=BAR_WIDTH), Column(width=4, justify="right"), Column(no_wrap=True), padding=(0, 1)
        )
        line.add_row(_bar("in_progress", self._progress), f"{self._progress:.0%}", "  ".join(numbers))
        return line


def most_interesting(rows: list[Row], limit: int) -> list[Row]:
    """Choose at most `limit` rows and return them in the order of the tree.

    The root comes first, then running, failed, cancelled, pending, completed and skipped tasks.
    """
    ranked = sorted(range(1, len(rows)), key=lambda place: MOST_INTERESTING_FIRST.index(rows[place].status))
    return [rows[place] for place in sorted([0, *ranked[: max(limit - 1, 0)]])]


def view_of(root: "Task", *, is_watched: bool, as_json: bool) -> View:
    """Choose the view.

    A terminal that allows animation gets a live tree. Otherwise events print as lines if
    `is_watched`, else only questions do.
    """
    is_for_people = output.is_for_people(as_json=as_json)
    if is_for_people and output.out().is_interactive:
        return LiveTree(root, is_brief=not is_watched)
    if not is_watched:
        return Questions(root)
    return Lines(root) if is_for_people else JsonLines(root)


def _rows_of(root: "Task") -> dict[str, Row]:
    """Return a row for each task but the templates that run as copies. If there are many parts, their rows are quiet."""
    rows = {}
    for task, guides in show.walk(root, children=with_copies):
        rows[task["id"]] = Row(
            task_id=task["id"],
            name=output.clean(task["name"]),
            guides=guides,
            status=shown_status(task),
            progress=task["progress"],
            detail=output.clean(task["error"] or ""),
            started_at=_seconds(task["started_at"]),
            ended_at=_seconds(task["completed_at"]),
            growth=growth_of(task),
            params=task["params"],
        )
    for row in list(rows.values()):
        if row.growth is not None and row.growth.has_many:
            for each in (each for part in row.growth.parts for each in part):
                rows[each["id"]].is_quiet = True
    return rows


def _seconds(timestamp: str | None) -> float | None:
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None


def _bar(status: str, progress: float) -> ProgressBar:
    _, colour = show.SIGNS.get(status, ("", "cyan"))
    return ProgressBar(
        total=1,
        completed=progress,
        width=BAR_WIDTH,
        pulse=status == "in_progress" and progress == 0,
        complete_style=colour,
        finished_style=colour,
        pulse_style=colour,
    )
