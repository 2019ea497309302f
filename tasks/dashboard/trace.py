"""The trace page of a task that calls models: what it did as a waterfall, each call as a conversation, and the replay of a call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from django.db.models import Count, Exists, OuterRef, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from aipartnerupflow.costs import price
from apflow_site.db import pools
from tasks.dashboard.conversation import (
    Line,
    Message,
    Source,
    ToolCall,
    answer_of,
    as_text,
    diff,
    files_in,
    source_of,
    talk_of,
    text_of,
    who,
)
from tasks.dashboard.json_text import file_name, on_one_line
from tasks.dashboard.pages import Context, page, read_page, redirect_with_message, render_page
from tasks.dashboard.words import duration, path_of
from tasks.models import ModelCall, Question, Run, RunTag, Task
from tasks.rules.exceptions import InvalidParams, RunNotFound, TasksError
from tasks.rules.places import OPENING, escaped
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.services.flows import Saved, get_version, save_flow
from tasks.services.flows.flow_lists import flow_of
from tasks.services.runs.run_inputs import with_tags
from tasks.services.spending.usage import get_call, set_feedback
from tasks.services.trees import execute_tree
from tasks.services.trees.queries import get_task
from tasks.status import Status, WaitKind
from tasks.storage import loads

TEMPLATE: Final = "dashboard/trace.html"
PAGE: Final = 100
"""The number of calls on a page."""
FOLDED_FROM: Final = 0.3
"""The part of the whole time from which a wait for an answer is folded."""
FOLDED_WIDTH: Final = 9.0
"""The width of a folded wait, in percent."""
LEAST_WIDTH: Final = 0.4
TEXT_SHOWN: Final = 4_000
"""The number of characters of a message that are shown at first."""
LABEL_CHARACTERS: Final = 160
AROUND: Final = 40
"""The number of characters that are shown around a text that was found."""
OTHER_RUNS: Final = 5
REPLAYS_SHOWN: Final = 10
MOST_REPLAYS: Final = 5
"""The number of scratch runs that one click starts."""
REPLAY: Final = "replay"
"""The tag of a scratch run; that of the replays of one call has the id of the call after a colon."""
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
    following: Json | None = None
    """The content of the next call of the same agent."""
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
        found.append(
            Said(call=call, content=content, following=after, answer=answer_of(content, after) if content else None)
        )
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
            args=_short(args),
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
        args=_short(f"({tool.as_code})"),
        result=_short(result),
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
        label=_short(question.text.partition("\n")[0]),
        href=path_of(question.task_id),
        result=_short(answer or ("waits for an answer" if question.closed_at is None else "not answered")),
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


def _short(text: str | None) -> str:
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


# --- the page ---


@read_page(TEMPLATE)
def trace(request: HttpRequest, caller: Caller, task_id: str) -> Context:
    """`GET /ui/trace/{id}`: the model calls of a task in its latest run that has some, or in `?run=`; `?call=` is the selected one."""
    return context_of(caller, task_id, request.GET.dict())


def context_of(caller: Caller, task_id: str, given: Mapping[str, str]) -> Context:
    """Return the context of the page for this query. Raises TaskNotFound, RunNotFound, CallNotFound or ResponseTooLarge."""
    task = get_task(caller=caller, task_id=task_id)
    run, is_newest = _run_of(task, given.get("run", ""))
    flow = flow_of(run)
    found = _calls_of(run, task)
    sought = given.get("q", "").strip()
    searched = found
    if sought:
        searched = found.filter(content__icontains=orjson.dumps(sought).decode()[1:-1])
    count = searched.count()
    number = _page_number(searched, given)
    calls = list(searched.defer("content")[(number - 1) * PAGE : number * PAGE])
    contents = _contents(calls)
    said = said_in(calls, contents)
    excerpts: dict[str, str] = {}
    if sought:  # the database has looked at the names of fields, too
        excerpts = {each.call.id: place for each in said if (place := excerpt(sought, each))}
        said = [each for each in said if each.call.id in excerpts]
    parts = _parts(task, run, said) if is_newest and run else Parts(tools={}, questions=(), children={})
    kind = kind_of(task)
    rows = [
        replace(row, args=_short(excerpts[row.call_id])) if row.kind == "model" and excerpts else row
        for row in rows_of(task, said, parts, kind=kind)
    ]
    axis = Axis(rows, is_true="scale" in given)
    selected = _selected(said, given.get("call", ""))
    replay = _replay(caller, selected, given.get("replay", "")) if selected else None
    is_running = run is not None and run.finished_at is None and not Status(task.status).is_terminal
    query = {"run": run.id} if run and given.get("run") else {}
    more = {"q": sought} if sought else {}
    tools = [tool for each in said for tool in each.tools]
    return {
        "place": "tasks",
        "task": task,
        "kind": kind,
        "run": run,
        "flow": flow,
        "is_running": is_running,
        "is_live": is_running or (replay is not None and replay.run is not None and replay.run.finished_at is None),
        "rows": [(row, axis.bars_of(row)) for row in rows],
        "axis": axis,
        "totals": _totals(found),
        "tool_count": len(tools),
        "handled": sum(tool.is_bad for tool in tools) if task.status == Status.COMPLETED else 0,
        "sought": sought,
        "count": count,
        "shown": len(said),
        "page": number,
        "later": number + 1 if count > number * PAGE else None,
        "as_source": "source" in given,
        "selected": _shown(task, selected, whole="whole" in given) if selected else None,
        "address": f"{reverse('dashboard:trace', args=[task.id])}?{urlencode(query | more)}{'&' if query or more else ''}",
        "before": _earlier(caller, run).first() if run else None,
        "others": _others(caller, task, run, selected.call, said) if selected and run else [],
        "pair": _pair(caller, selected, given.get("with", "")) if selected else None,
        "replay": replay,
        "may_save": task.executor_id == "llm_executor"
        and flow is not None
        and flow.name
        and flow.user_id == caller.user_id,
    }


def _run_of(task: Task, run_id: str) -> tuple[Run | None, bool]:
    """Return the run to show, and whether no later one has calls of the task. Raises RunNotFound."""
    runs = Run.objects.filter(root_id=task.root_id).order_by("-number")
    with_calls = runs.filter(Exists(ModelCall.objects.filter(run_id=OuterRef("id"), task_id=task.id)))
    newest = with_calls.first() or runs.first()
    if not run_id:
        return newest, True
    if (run := runs.filter(id=run_id).first()) is None:
        raise RunNotFound(run_id)
    return run, newest is not None and newest.id == run.id


def _calls_of(run: Run | None, task: Task) -> "QuerySet[ModelCall]":
    if run is None:
        return ModelCall.objects.none()
    return ModelCall.objects.filter(run_id=run.id, task_id=task.id).order_by("started_at", "id")


def _page_number(found: "QuerySet[ModelCall]", given: Mapping[str, str]) -> int:
    """Return the page in the query, or that of the selected call."""
    text = given.get("page", "")
    if text.isascii() and text.isdecimal() and len(text) < 6:
        return max(1, int(text))
    call = found.filter(id=given.get("call", "")).only("started_at").first()
    return 1 if call is None else found.filter(started_at__lt=call.started_at).count() // PAGE + 1


def _contents(calls: Sequence[ModelCall]) -> dict[str, Json | None]:
    """Load what was said in these calls, as much as a response may load."""
    stored = ModelCall.objects.filter(id__in=[call.id for call in calls]).order_by("started_at", "id")
    ids = loads.spend_on_page(dict(stored.values_list("id", loads.size_of("content"))), least=0)
    return dict(ModelCall.objects.filter(id__in=ids).values_list("id", "content"))


def _parts(task: Task, run: Run, calls: Sequence[Said]) -> Parts:
    steps = [(each.call.step, number) for each in calls for number, _ in enumerate(each.tools)]
    tool_ids = [f"{task.id}/{step}/call_{number}" for step, number in steps]
    asking = [task.id, *tool_ids, *(f"{task.id}/{step}/confirm_{number}" for step, number in steps)]
    columns = ("id", "status", "error", "started_at", "completed_at")
    tools = Task.objects.filter(root_id=task.root_id).only(*columns).in_bulk(tool_ids)
    waits = Question.objects.filter(run_id=run.id, task_id__in=asking).order_by("asked_at")
    questions = waits.filter(kind=WaitKind.QUESTION).only(
        "id", "task_id", "text", "answer", "answered_by", "asked_at", "answered_at", "closed_at"
    )
    started = dict(waits.filter(kind=WaitKind.RUN).values_list("id", "task_id"))
    runs = list(Run.objects.filter(wait_id__in=list(started)))
    names = dict(Task.objects.filter(id__in=[each.root_id for each in runs]).values_list("id", "name"))
    children = {started[each.wait_id or ""]: (each, names.get(each.root_id, each.root_id)) for each in runs}
    return Parts(tools=tools, questions=list(questions), children=children)


def _totals(found: "QuerySet[ModelCall]") -> Json:
    sums = ("total_tokens", "prompt_tokens", "cached_tokens", "cost_nanos")
    totals: Json = found.order_by().aggregate(calls=Count("id"), **{name: Sum(name) for name in sums})
    prompt, cached, nanos = totals["prompt_tokens"], totals["cached_tokens"], totals["cost_nanos"]
    share = cached / prompt if prompt and cached else None
    return totals | {"cached": share, "cost": None if nanos is None else price(dollars(int(nanos)))}


def _selected(said: Sequence[Said], call_id: str) -> Said | None:
    """Return the call with this id; without one, the last that says something, which is the answer."""
    chosen = next((each for each in said if each.call.id == call_id), None)
    answers = (each for each in reversed(said) if each.answer is not None)
    return chosen or next(answers, said[-1] if said else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The selected call as the page shows it."""

    call: ModelCall
    title: str
    messages: Sequence[tuple[Message, int]]
    """Each message with the number of characters that are left out."""
    answer: Message | None
    reasoning: str
    sources: Sequence[Source]
    left_out: int
    is_stored: bool
    facts: Sequence[str]


def _shown(task: Task, said: Said, *, whole: bool) -> Shown:
    content = said.content or {}
    messages = talk_of(content, files=dict(files_in(task.inputs)))
    return Shown(
        call=said.call,
        title=f"{who(said.call)}{': answer' if said.answer and not said.tools else ''}",
        messages=[(message, 0) if whole else _cut(message) for message in messages],
        answer=said.answer,
        reasoning=text_of(content.get("reasoning")),
        sources=[source_of(each) for each in content.get("citations", [])],
        left_out=content.get("left_out_messages", 0),
        is_stored=said.content is not None,
        facts=_facts(said.call, content),
    )


def _cut(message: Message) -> tuple[Message, int]:
    left_out = max(0, len(message.text) - TEXT_SHOWN)
    if not left_out:
        return message, 0
    text = f"{message.text[:TEXT_SHOWN]}…"
    return Message(role=message.role, text=text, tools=message.tools, files=message.files), left_out


def _facts(call: ModelCall, content: Json) -> list[str]:
    options = content.get("options") or {}
    counted = call.prompt_tokens is not None
    found = [
        call.model,
        f"temp. {options['temperature']}" if "temperature" in options else "",
        f"{call.prompt_tokens:,} in{f', {call.cached_tokens:,} cached' if call.cached_tokens else ''}"
        if counted
        else "",
        f"{call.completion_tokens:,} out" if counted and call.completion_tokens is not None else "",
        duration(None if call.duration_ms is None else call.duration_ms / 1000),
        "" if call.first_token_ms is None else f"first token {duration(call.first_token_ms / 1000)}",
        "" if call.cost_nanos is None else price(dollars(call.cost_nanos)),
        f"attempt {call.attempt}" if call.attempt > 1 else "",
        f"ended with {call.finish_reason}" if call.finish_reason not in (None, "stop", "tool_calls") else "",
    ]
    return [each for each in found if each]


# --- two calls side by side ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A call with which another one can be compared."""

    call_id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A measure of two calls. `change` says by how much the second one is better or worse (`look`)."""

    name: str
    before: str
    after: str
    change: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two calls, the older one first."""

    a: ModelCall
    b: ModelCall
    deltas: Sequence[Delta]
    prompt: Sequence[Line]
    answer: Sequence[Line]
    a_answer: Message | None
    b_answer: Message | None


def _others(caller: Caller, task: Task, run: Run, call: ModelCall, said: Sequence[Said]) -> list[Other]:
    """Return other calls of the task, and the same call of earlier runs."""
    here = [each.call for each in said if each.call.id != call.id and each.call.agent == call.agent]
    others = [Other(call_id=each.id, label=f"{who(each)} of this run") for each in here[-OTHER_RUNS:]]
    for before in _earlier(caller, run)[:OTHER_RUNS]:
        tasks = Task.objects.filter(root_id=before.root_id)
        if before.root_id == task.root_id:
            matching = tasks.filter(id=task.id)
        else:
            matching = tasks.filter(parent_id=None) if task.is_root else tasks.filter(label=task.label or task.id)
        ids = list(matching.values_list("id", flat=True)[:1])
        calls = ModelCall.objects.filter(run_id=before.id, task_id__in=ids, step=call.step, agent=call.agent)
        found = calls.filter(crew_task=call.crew_task).order_by("-started_at").values_list("id", flat=True).first()
        if found:
            version = f", version {before.flow_version}" if before.flow_version else ""
            label = f"{who(call)} of the run of {before.created_at:%-d %b %H:%M} UTC{version}"
            others.append(Other(call_id=found, label=label))
    return others


def _earlier(caller: Caller, run: Run) -> "QuerySet[Run]":
    """Return the earlier runs of the same flow or, without one, of the same tree, the newest first."""
    same = {"flow_id": run.flow_id} if run.flow_id else {"root_id": run.root_id}
    runs = Run.objects.for_caller(caller).filter(**same, created_at__lt=run.created_at)
    return runs.order_by("-created_at", "-id")


def _pair(caller: Caller, selected: Said, call_id: str) -> Pair | None:
    """Compare the selected call with another one. Raises CallNotFound."""
    if not call_id or call_id == selected.call.id:
        return None
    other = get_call(caller=caller, call_id=call_id)
    said = Said(call=other, content=other.content, answer=answer_of(other.content or {}))
    return pair_of(*sorted((selected, said), key=lambda each: each.call.started_at))


def pair_of(a: Said, b: Said) -> Pair:
    prompts = [as_text(talk_of(each.content or {})) for each in (a, b)]
    answers = [as_text([each.answer]) if each.answer else "" for each in (a, b)]
    return Pair(
        a=a.call,
        b=b.call,
        deltas=_deltas(a.call, b.call),
        prompt=diff(prompts[0], prompts[1]),
        answer=diff(answers[0], answers[1]),
        a_answer=a.answer,
        b_answer=b.answer,
    )


def _deltas(a: ModelCall, b: ModelCall) -> list[Delta]:
    measures: list[tuple[str, int | None, int | None, Callable[[int], str]]] = [
        ("Took", a.duration_ms, b.duration_ms, lambda ms: duration(ms / 1000)),
        ("First token", a.first_token_ms, b.first_token_ms, lambda ms: duration(ms / 1000)),
        ("Tokens in", a.prompt_tokens, b.prompt_tokens, lambda number: f"{number:,}"),
        ("Tokens out", a.completion_tokens, b.completion_tokens, lambda number: f"{number:,}"),
        ("Cost", a.cost_nanos, b.cost_nanos, lambda nanos: price(dollars(nanos))),
    ]
    found = []
    for name, before, after, shown in measures:
        if before is None or after is None:
            continue
        change = f"{(after - before) / before:+.0%}" if before else ""
        is_same = change in ("", "+0%", "-0%")
        look = "same" if is_same else "better" if after < before else "worse"
        text = "same" if is_same else change.replace("-", "−").replace("%", " %")
        found.append(Delta(name=name, before=shown(before), after=shown(after), change=text, look=look))
    return found


# --- the replay of a call ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The form of a replay, and the chosen scratch run with its call (`pair`), once it has one."""

    model: str
    temperature: str
    system: str
    prompt: str
    is_whole: bool
    """Whether the record of the call has all that was sent."""
    earlier: Sequence[Run] = ()
    run: Run | None = None
    pair: Pair | None = None
    error: str = ""
    problems: Sequence[str] = ()


def _replay(caller: Caller, selected: Said, chosen: str) -> Replay | None:
    """Return the form and, if `chosen` is a scratch run of the call, its outcome. None: the replay is not open."""
    if not chosen or selected.content is None:
        return None
    form = _form_of(selected.call, selected.content)
    tagged = RunTag.objects.filter(tag=tag_of(selected.call.id)).values("run_id")
    runs = Run.objects.for_caller(caller).filter(id__in=tagged).order_by("-created_at", "-id")
    form = replace(form, earlier=list(runs[:REPLAYS_SHOWN]))
    if (run := runs.filter(id=chosen).first()) is None:
        return form
    error = str(run.failures[0]["error"] or "") if run.failures else ""
    calls = ModelCall.objects.filter(run_id=run.id)
    loads.spend_on(calls, "content")
    if (call := calls.order_by("-started_at").first()) is None:
        return replace(form, run=run, error=error)
    sent = call.content or {}
    tried = replace(_form_of(call, sent), is_whole=form.is_whole, earlier=form.earlier) if sent else form
    pair = pair_of(selected, Said(call=call, content=sent, answer=answer_of(sent)))
    return replace(tried, run=run, error=error, pair=pair)


def _form_of(call: ModelCall, content: Json) -> Replay:
    messages = content.get("messages", [])
    options = content.get("options") or {}
    system = next((each for each in messages[:1] if _role_of(each) in ("system", "developer")), {})
    prompt = next((each for each in reversed(messages) if _role_of(each) == "user"), {})
    return Replay(
        model=call.model,
        temperature=str(options.get("temperature", "")),
        system=text_of(system.get("content")),
        prompt=text_of(prompt.get("content")),
        is_whole=not content.get("left_out_messages")
        and " characters left out) … " not in orjson.dumps(content).decode(),
    )


def _role_of(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def tag_of(call_id: str) -> str:
    """Return the tag of the scratch runs that replay the call."""
    return f"{REPLAY}:{call_id}"


def replayed(task: Task, call: ModelCall, given: Mapping[str, str]) -> Json:
    """Return a task that makes the call again, with the changes of the form. Raises InvalidParams."""
    content = call.content or {}
    known = dict(files_in(task.inputs))
    messages = [_with_files(each, known) for each in content.get("messages", []) if isinstance(each, dict)]
    before = _form_of(call, content)
    system, prompt = (_text_in(given, name) for name in ("system", "prompt"))
    if system != before.system:
        rest = messages[1:] if messages and _role_of(messages[0]) in ("system", "developer") else messages
        messages = [*([{"role": "system", "content": system}] if system else []), *rest]
    if prompt != before.prompt:
        places = [place for place, each in enumerate(messages) if _role_of(each) == "user"]
        if places:
            last = messages[places[-1]]
            parts = last["content"] if isinstance(last.get("content"), list) else []
            files = [part for part in parts if isinstance(part, dict) and part.get("type") != "text"]
            said = [{"type": "text", "text": prompt}] if prompt else []
            messages[places[-1]] = last | {"content": [*said, *files] if files else prompt}
        elif prompt:
            messages.append({"role": "user", "content": prompt})
    if not messages:
        raise InvalidParams([("prompt", "is empty, and there is no other message to send")])
    options: Json = {name: value for name, value in (content.get("options") or {}).items() if name != "temperature"}
    options |= _temperature_in(given)
    model = given.get("model", "").strip() or call.model
    base = (task.params or {}).get("api_base")
    return {
        "name": f"Replay of {who(call)} of {task.name}"[:255],
        "schemas": {"method": "llm_executor"},
        "inputs": {"history": messages, "model": escaped(model), **escaped(options)},
        **({"params": {"api_base": base}} if isinstance(base, str) else {}),
    }


def changed_definition(definition: Sequence[Json], task: Task, call: ModelCall, given: Mapping[str, str]) -> list[Json]:
    """Return the tasks of a flow, of which this one has the changes of the form. Raises InvalidParams."""
    wanted, before = task.label or task.id, _form_of(call, call.content or {})
    place = next((place for place, each in enumerate(definition) if each.get("id") == wanted), None)
    if place is None:
        raise InvalidParams([("flow", f"its newest version has no task '{wanted}'")])
    inputs: Json = dict(definition[place].get("inputs") or {})
    for name, old in (("system", before.system), ("prompt", before.prompt)):
        if (text := _text_in(given, name)) != old:
            inputs = _with_text(inputs, name, text)
    if (model := given.get("model", "").strip()) not in ("", before.model):
        inputs["model"] = escaped(model)
    if given.get("temperature", "").strip() != before.temperature:
        inputs.pop("temperature", None)
        inputs |= _temperature_in(given)
    changed = [*definition]
    changed[place] = definition[place] | {"inputs": inputs}
    return changed


def _with_text(inputs: Json, name: str, text: str) -> Json:
    """Return the inputs of a model task with another system prompt, or another message of the user (`prompt`).

    Raises InvalidParams.
    """
    messages = inputs.get("messages")
    said: list[Any] = messages if isinstance(messages, list) and name not in inputs else []
    roles = ("user",) if name == "prompt" else ("system", "developer")
    place = next((place for place in reversed(range(len(said))) if _role_of(said[place]) in roles), None)
    before = inputs.get(name, "") if place is None else said[place].get("content")
    is_missing = name == "prompt" and place is None and name not in inputs
    if not isinstance(before, str) or OPENING in before or is_missing:
        raise InvalidParams([(name, "has places ({{…}}) or files in the flow, so that it can be changed only there")])
    if place is not None:
        changed = [*said]
        changed[place] = said[place] | {"content": escaped(text)}
        return inputs | {"messages": changed}
    rest = {field: value for field, value in inputs.items() if field != name}
    return rest | ({name: escaped(text)} if text else {})


def _text_in(given: Mapping[str, str], name: str) -> str:
    """Return a text of the form. Browsers end lines as Windows does."""
    return given.get(name, "").replace("\r\n", "\n").strip()


def _temperature_in(given: Mapping[str, str]) -> Json:
    """Return the temperature of the form as an option; nothing if it is empty. Raises InvalidParams."""
    text = given.get("temperature", "").strip()
    try:
        return {"temperature": float(text)} if text else {}
    except ValueError:
        raise InvalidParams([("temperature", "must be a number from 0 to 2, or empty")]) from None


def _with_files(message: Json, files: Mapping[str, str]) -> Json:
    """Return the message with the whole data of its files; a file of which only a part is known is replaced by a note."""
    if not isinstance(message.get("content"), list):
        return message
    parts = []
    for part in message["content"]:
        inner = part.get(str(part.get("type"))) if isinstance(part, dict) else None
        if isinstance(inner, dict):
            whole = {
                name: files.get(value, value) if isinstance(value, str) else value for name, value in inner.items()
            }
            is_cut = any(isinstance(value, str) and value.endswith(" more characters)") for value in whole.values())
            part = {"type": "text", "text": f"[{part['type']} left out]"} if is_cut else part | {part["type"]: whole}
        parts.append(part)
    return message | {"content": parts}


@page("POST", needs=Role.OPERATOR)
async def replay(request: HttpRequest, caller: Caller, call_id: str) -> HttpResponse:
    """`POST /ui/calls/{id}/replay/`: make the call again in a scratch run, which changes nothing of its run."""
    call, task = await pools.read(_call_and_task, caller, call_id)
    if "save" in request.POST:
        return await _save(request, caller, call, task)
    times = request.POST.get("times", "1")
    count = int(times) if times.isascii() and times.isdecimal() and 1 <= int(times[:3]) <= MOST_REPLAYS else 0
    try:
        if not count:
            raise InvalidParams([("times", f"must be from 1 to {MOST_REPLAYS}")])
        tree = replayed(task, call, request.POST.dict())
        tags = [REPLAY, tag_of(call.id)]
        start = partial(with_tags, execute_tree, tags, caller=caller, tasks=[tree])
        started = [await pools.write(start) for _ in range(count)]
    except TasksError as error:
        return await _refused(request, caller, call, task, error)
    message = "The call is replayed in a scratch run."
    return redirect_with_message(request, _address(call, replay=started[-1].run.id), message)


async def _save(request: HttpRequest, caller: Caller, call: ModelCall, task: Task) -> HttpResponse:
    """Save the flow of the call's run with the changes of the form as its next version."""

    def save() -> Saved:
        flow = flow_of(Run.objects.filter(id=call.run_id).first())
        if flow is None or flow.name is None or flow.user_id != caller.user_id:
            raise InvalidParams([("flow", "the run is not one of a flow of yours")])
        _, newest = get_version(caller=caller, name=flow.name)
        tasks = changed_definition(newest.definition, task, call, request.POST.dict())
        kept: Json = {"inputs_schema": newest.inputs_schema, "description": newest.description}
        return save_flow(caller=caller, name=flow.name, tasks=tasks, **kept)

    try:
        saved = await pools.write(save)
    except TasksError as error:
        return await _refused(request, caller, call, task, error)
    done = "Saved" if saved.is_new else "Nothing was saved: this is"
    message = f"{done} version {saved.version.number} of {saved.flow.name}."
    return redirect_with_message(request, reverse("dashboard:flow", args=[saved.flow.name]), message)


async def _refused(
    request: HttpRequest, caller: Caller, call: ModelCall, task: Task, error: TasksError
) -> HttpResponse:
    """Show the form again, with the reasons."""
    problems = [error.message]
    if isinstance(error, InvalidParams):
        problems = [f"{name}: {reason}" for name, reason in error.problems]
    sent = request.POST

    def again() -> Context:
        form = Replay(
            model=sent.get("model", ""),
            temperature=sent.get("temperature", ""),
            system=sent.get("system", ""),
            prompt=sent.get("prompt", ""),
            is_whole=_form_of(call, call.content or {}).is_whole,
            problems=problems,
        )
        return context_of(caller, task.id, {"call": call.id, "run": call.run_id}) | {"replay": form}

    return await render_page(request, caller, TEMPLATE, await pools.read(again), status=422)


@page("POST", needs=Role.OPERATOR)
async def feedback(request: HttpRequest, caller: Caller, call_id: str) -> HttpResponse:
    """`POST /ui/calls/{id}/feedback/`: a thumb, or a score and a note; what is empty is removed."""
    sent = request.POST
    opinion: Json = {}
    if "thumb" in sent:
        opinion["thumb"] = sent["thumb"] if sent["thumb"] in ("up", "down") else None
    else:
        opinion["note"] = sent.get("note", "").replace("\r\n", "\n").strip()[:10_000] or None
        opinion["score"] = _score(sent.get("score", "").strip())
    call = await pools.write(partial(set_feedback, caller=caller, call_id=call_id, **opinion))
    return redirect_with_message(request, _address(call), "The feedback is stored.")


def _score(text: str) -> float | None:
    try:
        score = float(text) if text else None
    except ValueError:
        score = -1.0
    if score is not None and not 0 <= score <= 1:
        raise InvalidParams([("score", "must be a number from 0 to 1, or empty")])
    return score


@page()
async def recorded(request: HttpRequest, caller: Caller, call_id: str) -> HttpResponse:
    """`GET /ui/calls/{id}/`: a call as it is stored, as JSON. `?download` makes browsers store it."""
    found, _ = await pools.read(_call_and_task, caller, call_id)
    body = orjson.dumps({"id": found.id, "model": found.model, "content": found.content}, option=orjson.OPT_INDENT_2)
    response = HttpResponse(body, content_type="application/json; charset=utf-8")
    if "download" in request.GET:
        response["Content-Disposition"] = f'attachment; filename="{file_name(found.id, "call", "json")}"'
    return response


def _call_and_task(caller: Caller, call_id: str) -> tuple[ModelCall, Task]:
    found = get_call(caller=caller, call_id=call_id)
    return found, get_task(caller=caller, task_id=found.task_id)


def _address(call: ModelCall, **query: str) -> str:
    """Return the address of the call on the page of its task."""
    place = "replay" if query else "call"
    return f"{reverse('dashboard:trace', args=[call.task_id])}?{urlencode({'run': call.run_id, 'call': call.id, **query})}#{place}"
