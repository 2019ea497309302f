"""The waterfall of a trace: what a task with model calls did, as rows on one axis of time. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aipartnerupflow.costs import price
from tasks.dashboard.conversation import Message, ToolCall, answer_of, as_text, talk_of, text_of, who
from tasks.dashboard.json_text import on_one_line
from tasks.dashboard.words import duration, path_of
from tasks.models import ModelCall, Question, Run, Task
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.status import Status

FOLDED_FROM: Final = 0.3
"""The part of the whole time from which a wait for an answer is folded."""
FOLDED_WIDTH: Final = 9.0
"""The width of a folded wait, in percent."""
LEAST_WIDTH: Final = 0.4
LABEL_CHARACTERS: Final = 160
AROUND: Final = 40
"""The number of characters that are shown around a text that was found."""
KINDS: Final = {"llm": "model", "crewai": "crew", "batch": "crew", "langgraph": "graph"}
"""The beginnings of the ids of executors, and what the task is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the waterfall: a model call, a tool, a question or a run of another tree, or the task itself."""

    kind: str
    depth: int
    label: str
    call_id: str = ""
    """The call that a click selects."""
    href: str = ""
    """The page of something that is no call."""
    args: str = ""
    result: str = ""
    is_bad: bool = False
    """Whether it failed; of a tool, whether the model has read that."""
    start: datetime | None = None
    seconds: float | None = None
    first_seconds: float | None = None
    tokens: int | None = None
    cost_nanos: int | None = None

    @property
    def end(self) -> datetime | None:
        return None if self.start is None else self.start + timedelta(seconds=self.seconds or 0)

    @property
    def cost(self) -> str:
        return "" if self.cost_nanos is None else price(dollars(self.cost_nanos))


class Axis:
    """The time of a waterfall, from 0 to 100 percent. Long waits for people are folded, unless it `is_true` to scale."""

    def __init__(self, rows: Iterable[Row], *, is_true: bool = False) -> None:
        timed = [row for row in rows if row.start is not None and row.end is not None]
        self.begin = min((row.start for row in timed if row.start), default=datetime.now(UTC))
        end = max((row.end for row in timed if row.end), default=self.begin)
        self.seconds = (end - self.begin).total_seconds()
        waits: list[tuple[float, float]] = []
        for row in sorted((row for row in timed if row.kind == "asks"), key=lambda row: row.start or self.begin):
            start, over = (self._seconds(moment) for moment in (row.start, row.end))
            if waits and start <= waits[-1][1]:
                waits[-1] = waits[-1][0], max(waits[-1][1], over)
            else:
                waits.append((start, over))
        self.waited = sum(over - start for start, over in waits)
        long = [(start, over) for start, over in waits if over - start > FOLDED_FROM * self.seconds]
        self.has_long_waits = bool(long)
        self.folds = [] if is_true else long
        shown = self.seconds - sum(over - start for start, over in self.folds)
        self._scale = (100 - FOLDED_WIDTH * len(self.folds)) / shown if shown > 0 else 0.0

    def _seconds(self, moment: datetime | None) -> float:
        return ((moment or self.begin) - self.begin).total_seconds()

    def at(self, moment: datetime | None) -> float:
        """Return the place of a moment, in percent."""
        seconds = self._seconds(moment)
        place, before = 0.0, 0.0
        for start, over in self.folds:
            if seconds <= start:
                break
            place += (start - before) * self._scale + FOLDED_WIDTH * min(1.0, (seconds - start) / (over - start))
            before = over
        return min(100.0, place + max(0.0, seconds - before) * self._scale)

    @property
    def gaps(self) -> list[tuple[float, float, str]]:
        """The folded waits: place, width and duration."""
        begun = ((self.begin + timedelta(seconds=start), over - start) for start, over in self.folds)
        return [(self.at(start), FOLDED_WIDTH, duration(seconds)) for start, seconds in begun]

    @property
    def ticks(self) -> list[tuple[float, str, str]]:
        """Times of the run: place, text, and how the text is aligned."""
        between = [] if self.folds or not self.seconds else [25.0, 50.0, 75.0]
        inner = [(place, duration(self.seconds * place / 100), "middle") for place in between]
        return [(0.0, "0", "start"), *inner, (100.0, duration(self.seconds), "end")]

    def bars_of(self, row: Row) -> list[tuple[str, float, float]]:
        if row.start is None or row.end is None:
            return []
        start, end = self.at(row.start), self.at(row.end)
        kind = "bad" if row.is_bad and row.kind == "model" else row.kind
        if row.first_seconds is None:
            return [_bar(kind, start, end)]
        first = self.at(row.start + timedelta(seconds=min(row.first_seconds, row.seconds or 0)))
        return [_bar(f"{kind} until", start, first), _bar(kind, first, end)]


def _bar(kind: str, start: float, end: float) -> tuple[str, float, float]:
    width = max(LEAST_WIDTH, end - start)
    return kind, round(min(start, 100 - width), 3), round(width, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A call with what was said in it. `content` is None if it is not stored, or too large for the page."""

    call: ModelCall
    content: Json | None
    answer: Message | None = None

    @property
    def tools(self) -> Sequence[ToolCall]:
        return self.answer.tools if self.answer else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the tree and the run of a task that belong to its trace, by the ids of tasks."""

    tools: Mapping[str, Task]
    questions: Sequence[Question]
    children: Mapping[str, tuple[Run, str]]
    """A run that a tool has started and waited for, with its name."""


def said_in(calls: Sequence[ModelCall], contents: Mapping[str, Json | None]) -> list[Said]:
    """Return the calls with their answers, and the results of tools from the next call of the same agent."""
    found: list[Said] = []
    following: dict[tuple[str | None, str | None], Json | None] = {}
    for call in reversed(calls):
        agent, content = (call.agent, call.crew_task), contents.get(call.id)
        after = following.get(agent)
        found.append(Said(call=call, content=content, answer=answer_of(content, after) if content else None))
        if content is not None:
            following[agent] = content
    return found[::-1]


def rows_of(task: Task, calls: Sequence[Said], parts: Parts, *, kind: str) -> list[Row]:
    """Return the rows of the waterfall in the order in which they began, each below the one that it belongs to."""
    rows: list[Row] = []
    for said in calls:
        call = said.call
        args = call.error if call.status != Status.COMPLETED else "" if said.tools else "answer" if said.answer else ""
        if call.attempt > 1:
            args = f"attempt {call.attempt}{f': {args}' if args else ''}"
        model = Row(
            kind="model",
            depth=1,
            label=who(call),
            call_id=call.id,
            args=short(args),
            is_bad=call.status == Status.FAILED,
            start=call.started_at,
            seconds=None if call.duration_ms is None else call.duration_ms / 1000,
            first_seconds=None if call.first_token_ms is None else call.first_token_ms / 1000,
            tokens=call.total_tokens,
            cost_nanos=call.cost_nanos,
        )
        below: list[tuple[Row, list[Row]]] = []
        for number, tool in enumerate(said.tools):
            task_id = f"{task.id}/{call.step}/call_{number}"
            below.append((_row_of_tool(call, tool, parts.tools.get(task_id)), _below_tool(task_id, parts)))
            confirm_id = f"{task.id}/{call.step}/confirm_{number}"
            below += [(_row_of_question(each), []) for each in parts.questions if each.task_id == confirm_id]
        below.sort(key=lambda pair: (pair[0].start is None, pair[0].start or call.started_at))
        rows += [model, *(row for tool_row, more in below for row in (tool_row, *more))]
    own = [_row_of_question(each, depth=1) for each in parts.questions if each.task_id == task.id]
    for question in own:  # below the calls that were made before it
        asked_at = question.start or datetime.now(UTC)
        later = (place for place, row in enumerate(rows) if row.depth == 1 and row.start and row.start > asked_at)
        rows.insert(next(later, len(rows)), question)
    starts = [row.start for row in rows if row.start]
    ends = [row.end for row in rows if row.end]
    if starts:
        whole = Row(
            kind="whole",
            depth=0,
            label=task.name,
            args=kind,
            href=path_of(task.id),
            start=min(starts),
            seconds=(max(ends) - min(starts)).total_seconds(),
        )
        rows.insert(0, whole)
    return rows


def _row_of_tool(call: ModelCall, tool: ToolCall, task: Task | None) -> Row:
    start = task.started_at if task else None
    ended = (task.completed_at or datetime.now(UTC)) if task and start else None
    failed = task is not None and task.status == Status.FAILED
    result = tool.result if tool.result is not None else (task.error or "") if task else ""
    return Row(
        kind="tool",
        depth=2,
        label=tool.name,
        call_id=call.id,
        href=path_of(task.id) if task else "",
        args=short(f"({tool.as_code})"),
        result=short(result),
        is_bad=failed or tool.is_bad,
        start=start,
        seconds=(ended - start).total_seconds() if ended and start else None,
    )


def _row_of_question(question: Question, *, depth: int = 2) -> Row:
    ended = question.answered_at or question.closed_at or datetime.now(UTC)
    text = question.answer if isinstance(question.answer, str) else on_one_line(question.answer)
    answer = f"{text}, by {question.answered_by}" if question.answered_at and question.answered_by else ""
    return Row(
        kind="asks",
        depth=depth,
        label=short(question.text.partition("\n")[0]),
        href=path_of(question.task_id),
        result=short(answer or ("waits for an answer" if question.closed_at is None else "not answered")),
        start=question.asked_at,
        seconds=max(0.0, (ended - question.asked_at).total_seconds()),
    )


def _below_tool(task_id: str, parts: Parts) -> list[Row]:
    rows = [_row_of_question(each, depth=3) for each in parts.questions if each.task_id == task_id]
    if (child := parts.children.get(task_id)) is not None:
        run, name = child
        start, ended = run.started_at or run.created_at, run.finished_at or datetime.now(UTC)
        rows.append(
            Row(
                kind="subrun",
                depth=3,
                label=name,
                href=path_of(run.root_id),
                args=f"run {run.number}, {run.status}",
                is_bad=run.status == Status.FAILED,
                start=start,
                seconds=max(0.0, (ended - start).total_seconds()),
            )
        )
    return rows


def short(text: str | None) -> str:
    """Return a text as one line of a label."""
    line = " ".join((text or "")[: 4 * LABEL_CHARACTERS].split())
    return line if len(line) <= LABEL_CHARACTERS else f"{line[:LABEL_CHARACTERS]}…"


def kind_of(task: Task) -> str:
    """Return what a task with model calls is called: an agent, a crew, a graph, or a model."""
    if (task.executor_id or "").startswith("llm") and isinstance(task.inputs.get("tools"), list):
        return "agent"
    return next((kind for start, kind in KINDS.items() if (task.executor_id or "").startswith(start)), "task")


def excerpt(text: str, said: Said) -> str:
    """Return the place of the text in the call, with the words around it: in its answer, its tools or its prompt. Empty without one."""
    if said.content is None:
        return ""
    answer = as_text([said.answer]) if said.answer else ""
    for part in (answer, text_of(said.content.get("reasoning")), as_text(talk_of(said.content))):
        at = part.casefold().find(text.casefold())
        if at >= 0:
            before = part[max(0, at - AROUND) : at]
            return f"{'…' if at > AROUND else ''}{before}{part[at : at + len(text) + AROUND]}"
    return ""
