"""The trace page of a task that calls models: its waterfall, the selected call as a conversation, two calls side by side, and replays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
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
    answer_of,
    as_text,
    diff,
    files_in,
    source_of,
    talk_of,
    text_of,
    who,
)
from tasks.dashboard.json_text import file_name
from tasks.dashboard.pages import Context, page, read_page, redirect_with_message, render_page
from tasks.dashboard.replays import Form, changed_definition, form_of, replayed, tag_of
from tasks.dashboard.waterfall import Axis, Parts, Said, excerpt, kind_of, rows_of, said_in, short
from tasks.dashboard.words import duration
from tasks.models import ModelCall, Question, Run, RunTag, Task
from tasks.rules.exceptions import InvalidParams, RunNotFound, TasksError
from tasks.rules.strict_json import Json
from tasks.rules.tags import REPLAY
from tasks.rules.token_usage import dollars
from tasks.services.flows import Saved, get_version, save_flow
from tasks.services.flows.flow_lists import flow_of
from tasks.services.history import scores_of
from tasks.services.runs.run_inputs import with_tags
from tasks.services.spending.usage import get_call, set_feedback
from tasks.services.trees import execute_tree
from tasks.services.trees.queries import get_task
from tasks.status import Status, WaitKind
from tasks.storage import loads

TEMPLATE: Final = "dashboard/trace.html"
PAGE: Final = 100
"""The number of calls on a page."""
TEXT_SHOWN: Final = 4_000
"""The number of characters of a message that are shown at first."""
OTHER_RUNS: Final = 5
REPLAYS_SHOWN: Final = 10
MOST_REPLAYS: Final = 5
"""The number of scratch runs that one click starts."""


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
        replace(row, args=short(excerpts[row.call_id])) if row.kind == "model" and excerpts else row
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
        "checks": task.checks if is_newest else None,
        "kind": kind,
        "run": run,
        "flow": flow,
        "scores": scores_of(run.id) if run else (),
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
    share = int(cached) / int(prompt) if prompt and cached else None
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
    """The form of a replay, the scratch runs so far, and the chosen one with its call (`pair`), once it has one."""

    form: Form
    earlier: Sequence[Run] = ()
    run: Run | None = None
    pair: Pair | None = None
    error: str = ""
    problems: Sequence[str] = ()


def _replay(caller: Caller, selected: Said, chosen: str) -> Replay | None:
    """Return the form and, if `chosen` is a scratch run of the call, its outcome. None: the replay is not open."""
    if not chosen or selected.content is None:
        return None
    recorded = form_of(selected.call.model, selected.content)
    tagged = RunTag.objects.filter(tag=tag_of(selected.call.id)).values("run_id")
    runs = Run.objects.for_caller(caller).filter(id__in=tagged).order_by("-created_at", "-id")
    found = Replay(form=recorded, earlier=list(runs[:REPLAYS_SHOWN]))
    if (run := runs.filter(id=chosen).first()) is None:
        return found
    scratch = Task.objects.filter(id=run.root_id)
    loads.spend_on(scratch, "inputs")
    if (tried := scratch.values_list("inputs", flat=True).first()) is not None:
        form = form_of(tried["model"], {"messages": tried["history"], "options": tried})
        found = replace(found, form=replace(form, is_whole=recorded.is_whole))
    error = str(run.failures[0]["error"] or "") if run.failures else ""
    calls = ModelCall.objects.filter(run_id=run.id)
    loads.spend_on(calls, "content")
    if (call := calls.order_by("-started_at").first()) is None:
        return replace(found, run=run, error=error)
    sent = call.content or {}
    pair = pair_of(selected, Said(call=call, content=sent, answer=answer_of(sent)))
    return replace(found, run=run, error=error, pair=pair)


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
        form = Form(
            model=sent.get("model", ""),
            temperature=sent.get("temperature", ""),
            system=sent.get("system", ""),
            prompt=sent.get("prompt", ""),
            is_whole=form_of(call.model, call.content or {}).is_whole,
        )
        shown = context_of(caller, task.id, {"call": call.id, "run": call.run_id})
        return shown | {"replay": Replay(form=form, problems=problems)}

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
