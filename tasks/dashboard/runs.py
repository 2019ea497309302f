"""The pages of runs: the list with a chart, one run with its tree as it was, and two runs side by side."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.boxes import settings_of_boxes
from tasks.dashboard.conversation import diff
from tasks.dashboard.filters import SPANS, STATUSES, read_run_filters
from tasks.dashboard.json_text import pretty
from tasks.dashboard.looks import looks_of, mark_handled
from tasks.dashboard.pages import Context, page, read_page, redirect_with_message, render_page
from tasks.models import Flow, Run, Task
from tasks.models.runs import FAILURES
from tasks.rules.strict_json import TEXT
from tasks.services import history
from tasks.services.files import list_files
from tasks.services.history import run_search
from tasks.services.history.comparisons import Pair, compare, seconds_of, success_before
from tasks.services.history.past_trees import past_tree
from tasks.services.secrets.write_only import for_pages
from tasks.status import Status

PAGE: Final = 50
BARS: Final = 28
"""The number of bars of a chart of a time that is chosen by hand."""
NAMES_OFFERED: Final = 200
TASKS_SHOWN: Final = 1_000
PAIRS_SHOWN: Final = 100
OTHERS_SHOWN: Final = 20
FILES_SHOWN: Final = 50
LONGEST_COMPARED: Final = 5_000
"""The number of characters of a value of a task that are compared."""
NOTICED_SECONDS: Final = 1
NOTICED_FACTOR: Final = 1.5
"""A duration is marked if it differs by so much from the other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of the chart: the runs that were created from `start` on, in parts `(status, y, height)` of 100."""

    start: datetime
    counts: Mapping[str, int]
    x: int
    parts: Sequence[tuple[str, float, float]]


@read_page("dashboard/runs.html")
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/runs/`: the runs that the caller may see, newest first."""
    filters = read_run_filters(request.GET)
    since, until = filters.period(datetime.now(UTC))
    width = (until - since) / BARS if filters.since or filters.until else SPANS[filters.span][2]
    wanted = history.RunFilter(
        task_id=filters.task_id or None,
        flow=filters.flow or None,
        statuses=[filters.status] if filters.status else (),
        user_id=filters.owner or None,
        tag=filters.tag or None,
        text=filters.text or None,
        since=since,
        until=until if filters.until else None,
    )
    if wanted.text is not None and not filters.cursor:  # a text is searched once: its first page has the chart
        rows, next_cursor, times = history.search_runs(caller=caller, wanted=wanted, limit=PAGE)
    else:
        rows, next_cursor = history.list_runs(caller=caller, wanted=wanted, limit=PAGE, cursor=filters.cursor)
        times = history.Times(moments={}, cut=())
        if wanted.text is None:
            times = history.times_of(caller=caller, wanted=wanted)
    bars = bars_of(times.moments, now=until, count=round((until - since) / width), width=width)
    flows = Flow.objects.for_caller(caller).order_by("name").values_list("name", flat=True)
    return {
        "place": "runs",
        "rows": rows,
        "filters": filters,
        "spans": {key: words for key, (words, _, _) in SPANS.items()},
        "statuses": STATUSES,
        "flow_names": list(flows.distinct()[:NAMES_OFFERED]),
        "bars": bars,
        "until": until,
        "most": max((sum(bar.counts.values()) for bar in bars), default=0),
        "totals": [
            (status, len(times.moments.get(status, ())), status in times.cut, filters.query(status=status))
            for status in STATUSES
        ],
        "query": filters.query(cursor=filters.cursor),
        "view_query": filters.query(),
        "views": run_search.views_of(caller=caller, place="runs"),
        "next_query": filters.query(cursor=next_cursor) if next_cursor else "",
        "first_query": filters.query() if filters.cursor else "",
    }


def bars_of(times: Mapping[str, Sequence[datetime]], *, now: datetime, count: int, width: timedelta) -> list[Bar]:
    """Return the bars of the chart, of which the last one ends now."""
    counts = [Counter[str]() for _ in range(count)]
    for status, moments in times.items():
        for moment in moments:
            if 0 <= (back := (now - moment) // width) < count:
                counts[count - 1 - back][status] += 1
    most = max((each.total() for each in counts), default=0) or 1
    bars = []
    for x, each in enumerate(counts):
        parts, top = [], 100.0
        for status in STATUSES:
            if each.get(status):
                height = 100 * each[status] / most
                top -= height
                parts.append((status, round(top, 3), round(height, 3)))
        bars.append(Bar(start=now - width * (count - x), counts=dict(each), x=x, parts=parts))
    return bars


@read_page("dashboard/run.html")
def run(request: HttpRequest, caller: Caller, run_id: str) -> Context:
    """`GET /ui/runs/{id}/`: one run, with its tree as it was when the run ended."""
    found = history.get_run(caller=caller, run_id=run_id)
    past = past_tree(caller=caller, run_id=run_id)
    run = found.facts.run
    # Further runs of the same flow or, without one, of the same tree.
    same = {"flow_id": run.flow_id} if run.flow_id else {"root_id": run.root_id}
    runs = Run.objects.for_caller(caller).filter(**same).exclude(id=run.id).order_by("-created_at", "-id")
    others = history.with_facts(list(runs[:OTHERS_SHOWN]))
    files = list_files(caller=caller, limit=FILES_SHOWN + 1, root_id=run.root_id)
    may_retry = run.status == Status.FAILED and history.is_latest(run)
    mark_handled(past.tasks)
    boxes = {*settings_of_boxes(run.root_id), *(task.spawned_by for task in past.tasks if task.spawned_by)}
    looks = looks_of(past.tasks, run=run, boxes=boxes)
    # Failed tasks that did not fail because of another one.
    failed = {failure.task_id for failure in found.failures}
    ran = {task.id: task.executor_id for task in past.tasks if task.id in failed and task.cause_id is None}
    return {
        "place": "runs",
        "facts": found.facts,
        "run": run,
        "may_retry": may_retry,
        "inputs": found.inputs,
        "scores": found.scores,
        "parent": found.parent,
        "failures": found.failures,
        "causes": [failure for failure in found.failures if failure.task_id in ran] or found.failures,
        "blocked": [failure for failure in found.failures if failure.task_id not in ran] if ran else [],
        "most_failures": FAILURES,
        "editable": {task_id for task_id, executor_id in ran.items() if executor_id} if may_retry else (),
        "warnings": past.warnings,
        "tasks": [(task, looks[task.id], seconds_of(task)) for task in past.tasks[:TASKS_SHOWN]],
        "counts": Counter(task.shown_status for task in past.tasks),
        "task_count": len(past.tasks),
        "files": files[:FILES_SHOWN],
        "more_files": len(files) > FILES_SHOWN,
        "others": others,
        "before": next((other for other in others if other.run.created_at < run.created_at), None),
    }


@page()
async def compared(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/runs/compare/?a=&b=`: two runs task by task. Without `a`, the last one before `b` that completed."""
    a, b = request.GET.get("a", ""), request.GET.get("b", "")
    if a or not b:
        context = await pools.read(_pairs_of, caller, a, b)
        return await render_page(request, caller, "dashboard/compare.html", context)
    before = await pools.read(partial(success_before, caller=caller, run_id=b))
    if before is None:
        address = reverse("dashboard:run_page", args=[b])
        none = "No earlier run of it has completed."
        return redirect_with_message(request, address, none, level=messages.INFO)
    return HttpResponseRedirect(f"{request.path}?{urlencode({'a': before.id, 'b': b})}")


def _pairs_of(caller: Caller, a: str, b: str) -> Context:
    found = compare(caller=caller, a=a, b=b)
    changed = [pair for pair in found.pairs if pair.is_changed]
    same = [pair for pair in found.pairs if not pair.is_changed]
    return {
        "place": "runs",
        "b": found.b,
        "sides": [("A", found.a), ("B", found.b)],
        "inputs": found.inputs,
        "inputs_differ": diff(*map(pretty, found.inputs)),
        "has_inputs": any(found.inputs),
        "warnings": found.warnings,
        "changed": [
            (pair, durations(pair)[2], *_compared(_side(pair.a), _side(pair.b))) for pair in changed[:PAIRS_SHOWN]
        ],
        "changed_count": len(changed),
        "same": [(pair, *durations(pair)) for pair in same[:TASKS_SHOWN]],
        "same_count": len(same),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A task in one of the runs, with the values that the page shows."""

    task: Task
    seconds: float | None
    inputs: Any
    result: Any


def durations(pair: Pair) -> tuple[float | None, float | None, str]:
    """Return how long the task took in both runs, and in the second one as a multiple of the first, such as `2.5 ×`, if one notices."""
    before, after = (None if task is None else seconds_of(task) for task in (pair.a, pair.b))
    if not before or not after or abs(after - before) < NOTICED_SECONDS:
        return before, after, ""
    return before, after, f"{after / before:.1f} ×" if not 1 / NOTICED_FACTOR < after / before < NOTICED_FACTOR else ""


def _compared(a: Side | None, b: Side | None) -> tuple[Sequence[tuple[str, Side | None]], Sequence[Any]]:
    """Return the sides with their names, and of inputs and result the title, the text, and the lines if both have others."""
    parts = []
    for title in ("Inputs", "Result"):
        texts = [pretty(getattr(side, title.lower()))[:LONGEST_COMPARED] for side in (a, b) if side]
        parts.append((title, texts[0], diff(*texts) if len(texts) > 1 else ()))
    return (("A", a), ("B", b)), parts


def _side(task: Task | None) -> Side | None:
    if task is None:
        return None
    inputs, result, schemas = (
        orjson.loads(vars(task)[f"{name}{TEXT}"] or "null") for name in ("inputs", "result", "schemas")
    )
    task.schemas = schemas  # not loaded but as a text
    return Side(task=task, seconds=seconds_of(task), inputs=for_pages(task, inputs), result=result)
