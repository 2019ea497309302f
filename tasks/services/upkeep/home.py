"""The home page: what happened since the last visit, and what waits for a person. Each function returns only what its caller may see."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.db.models import Count, F, Max, Min, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Now

from accounts.callers import Caller
from llmkeys.sealed_texts import has_sealed
from tasks.models import Firing, FlowVersion, LastVisit, Run, RunInputs, Schedule, Task, TaskEvent, WorkerProcess
from tasks.queue import leases, suspension
from tasks.rules.exceptions import InvalidParams
from tasks.rules.firings import ON_TIME, Outcome
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.services.flows.flow_lists import median_seconds, newest_runs
from tasks.services.history.run_counts import BY_STATUS, Ended, FailureGroup, ended_runs, failure_groups
from tasks.services.runs.run_inputs import with_inputs
from tasks.services.trees import Execution, execute_again, execute_task
from tasks.services.waits.needed_code import needed_by
from tasks.status import Status
from tasks.storage import loads

SPANS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
)
LAST_VISIT: Final = "visit"
FIRST: Final = timedelta(days=1)
"""The time that is shown before the first visit is noted."""
LONGEST: Final = timedelta(days=30)
WEEK: Final = timedelta(days=7)
MOST_GROUPS: Final = 20
MOST_TROUBLES: Final = 10
MISSED: Final = "Missed"
"""The reason of a time at which no server was there begins with this (`tasks.rules.firings`)."""
QUIET: Final = timedelta(minutes=10)
QUIET_WITHOUT_FLOW: Final = timedelta(hours=1)
TIMES_USUAL: Final = 5
"""A run is stuck without an event for QUIET, and for so many times what runs of its flow usually take."""
COMPARED: Final = 20
"""The number of runs of a flow that say how long it usually takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of the runs that ended in a time."""

    runs: int
    completed: int
    failed: int
    total_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A run or a schedule that is held up: `stuck`, `late`, `missed` or `paused`.

    `at`: of the last event, since when it waits for code, the time that is due, the last time that was missed. `count` is how many times were missed.
    """

    kind: str
    name: str
    at: datetime | None
    reason: str = ""
    count: int = 1
    root_id: str | None = None
    schedule_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """The live worker processes and their places, and the caller's runs that a worker has, or that wait for one."""

    workers: int
    places: int
    running: int
    queued: int
    queued_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Events from `since` until now, compared with the same hours of the week before.

    `is_last_visit`: `since` is when the caller last marked everything as seen. `groups` are the first ones of `reasons`.
    """

    since: datetime
    until: datetime
    is_last_visit: bool
    totals: Totals
    week_before: Totals
    groups: Sequence[FailureGroup]
    reasons: int
    troubles: Sequence[Trouble]
    pulse: Pulse
    coming: Sequence[Schedule]


def home(*, caller: Caller, since: str = LAST_VISIT) -> Home:
    """Return what happened since a time: one of SPANS before now, LAST_VISIT, or a time in ISO 8601.

    Raises InvalidParams.
    """
    now = datetime.now(UTC)
    begin, is_last_visit = _begin(caller, since or LAST_VISIT, now)
    ended = ended_runs(caller=caller, since=begin)
    groups, reasons = failure_groups(caller=caller, ended=ended, since=begin, most=MOST_GROUPS)
    coming = Schedule.objects.for_caller(caller).filter(next_run_at__gte=now).order_by("next_run_at")
    return Home(
        since=begin,
        until=now,
        is_last_visit=is_last_visit,
        totals=_totals(ended),
        week_before=_totals(ended_runs(caller=caller, since=begin - WEEK, until=now - WEEK, by=BY_STATUS)),
        groups=groups,
        reasons=reasons,
        troubles=[
            *_stuck(caller, now),
            *_without_code(caller),
            *_late(caller, now),
            *_missed(caller, begin),
            *_paused(caller),
        ],
        pulse=_pulse(caller),
        coming=list(coming.only("id", "name", "next_run_at")[:3]),
    )


def _begin(caller: Caller, since: str, now: datetime) -> tuple[datetime, bool]:
    if since == LAST_VISIT:
        at = LastVisit.objects.filter(user_id=caller.user_id).values_list("at", flat=True).first()
        return (now - FIRST, False) if at is None else (max(at, now - LONGEST), True)
    if since in SPANS:
        return now - SPANS[since], False
    try:
        at = moment_of(since)
    except ValueError:
        choices = ", ".join([LAST_VISIT, *SPANS])
        raise InvalidParams([("since", f"must be one of {choices}, or a time such as 2026-11-30T18:00")]) from None
    if not now - LONGEST <= at <= now:
        raise InvalidParams([("since", f"must be in the past, and at most {LONGEST.days} days ago")])
    return at, False


def moment_of(text: str) -> datetime:
    """Return a time in ISO 8601, which is in UTC unless it has a zone. Raises ValueError."""
    at = datetime.fromisoformat(text)
    try:
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:  # in the first or last hours that there are
        raise ValueError(text) from error


def mark_seen(*, caller: Caller, until: datetime) -> None:
    """Let the caller's next visit begin at this time, up to which a page has shown everything."""
    LastVisit.objects.update_or_create(user_id=caller.user_id, defaults={"at": min(until, datetime.now(UTC))})


def _totals(ended: Sequence[Ended]) -> Totals:
    by_status = Counter[str]()
    for each in ended:
        by_status[each.status] += each.runs
    return Totals(
        runs=by_status.total(),
        completed=by_status[Status.COMPLETED],
        failed=by_status[Status.FAILED],
        total_tokens=sum(each.total_tokens for each in ended),
        cost_usd=dollars(sum(each.cost_nanos for each in ended)),
    )


def _stuck(caller: Caller, now: datetime) -> list[Trouble]:
    """Return the runs in which nothing has happened for much longer than usual, the longest first."""
    latest = TaskEvent.objects.filter(run_id=OuterRef("id"), seq=OuterRef("last_seq")).values("created_at")[:1]
    held = leases.held().unfinished_for(caller).filter(started_at__lt=now - QUIET).annotate(heard_at=Subquery(latest))
    silent = list(held.only("root_id", "flow_id").filter(heard_at__lt=now - QUIET).order_by("heard_at")[:MOST_TROUBLES])
    if not silent:
        return []
    names = dict(Task.objects.filter(id__in=[run.root_id for run in silent]).values_list("id", "name"))
    flows = newest_runs(list({run.flow_id for run in silent if run.flow_id}), each=COMPARED)
    found = []
    for run in silent:
        usual = median_seconds(flows.get(run.flow_id or "", ()))
        heard_at: datetime = vars(run)["heard_at"]
        patience = QUIET_WITHOUT_FLOW if usual is None else max(QUIET, timedelta(seconds=TIMES_USUAL * usual))
        if heard_at < now - patience:
            found.append(Trouble(kind="stuck", name=names.get(run.root_id, ""), at=heard_at, root_id=run.root_id))
    return found


def _without_code(caller: Caller) -> list[Trouble]:
    """Return the runs that wait for code of workflows which no worker has."""
    runs = suspension.needing().unfinished_for(caller).order_by("id")[:MOST_TROUBLES]
    missing = [(run, code) for run in runs for code in needed_by(run) if not code.has_worker]
    names = dict(Task.objects.filter(id__in=[run.root_id for run, _ in missing]).values_list("id", "name"))
    return [
        Trouble(
            kind="stuck",
            name=names.get(run.root_id, ""),
            at=code.since,
            reason=f"waits for {code.text}, which no worker has",
            root_id=run.root_id,
        )
        for run, code in missing
    ]


def _late(caller: Caller, now: datetime) -> list[Trouble]:
    """Return the schedules whose time is over, and which have done nothing about it."""
    late = Schedule.objects.for_caller(caller).filter(next_run_at__lt=now - ON_TIME).order_by("next_run_at")
    rows = late.values_list("id", "name", "next_run_at")[:MOST_TROUBLES]
    return [Trouble(kind="late", name=name, at=at, schedule_id=schedule_id) for schedule_id, name, at in rows]


def _missed(caller: Caller, since: datetime) -> list[Trouble]:
    """Return the schedules of which no run was started at some of their times."""
    own = Schedule.objects.for_caller(caller)
    missed = Q(outcome=Outcome.SKIPPED.value, reason__startswith=MISSED) | Q(outcome=Outcome.FAILED.value)
    firings: Any = Firing.objects.filter(missed, schedule__in=own.values("id"), scheduled_for__gte=since).order_by()
    rows = firings.values_list("schedule_id", "schedule__name").annotate(
        times=Count("id"), at=Max("scheduled_for"), why=Max("reason")
    )
    return [
        Trouble(kind="missed", name=name, at=at, reason=why or "", count=times, schedule_id=schedule_id)
        for schedule_id, name, times, at, why in rows.order_by("-at")[:MOST_TROUBLES]
    ]


def _paused(caller: Caller) -> list[Trouble]:
    """Return the schedules that are paused for a reason, such as runs that failed."""
    paused = Schedule.objects.for_caller(caller).filter(is_paused=True, pause_reason__isnull=False)
    rows = paused.order_by("-updated_at").values_list("id", "name", "updated_at", "pause_reason")[:MOST_TROUBLES]
    return [
        Trouble(kind="paused", name=name, at=at, reason=reason or "", schedule_id=schedule_id)
        for schedule_id, name, at, reason in rows
    ]


def _pulse(caller: Caller) -> Pulse:
    alive = WorkerProcess.objects.filter(beat_at__gte=Now() - timedelta(seconds=leases.ALIVE_SECONDS))
    workers = alive.aggregate(count=Count("id"), places=Sum("places"))
    queue = (
        leases.waiting()
        .unfinished_for(caller)
        .exclude(root_id=F("id"))
        .aggregate(count=Count("id"), at=Min("created_at"))
    )
    return Pulse(
        workers=workers["count"],
        places=workers["places"] or 0,
        running=leases.held().unfinished_for(caller).count(),
        queued=queue["count"],
        queued_since=queue["at"],
    )


# --- a group is retried ---

MOST_RETRIED: Final = 100
"""The number of runs that one request starts."""
MOST_VERSIONS: Final = 20
SHORT_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedInputs:
    """The inputs that runs have in common: a JSON Schema of those that all their flows take, and how often each value occurs, as JSON."""

    schema: Json
    values: Mapping[str, Counter[str]]


def shared_inputs(runs: Sequence[Run]) -> SharedInputs:
    """Return the inputs that all these runs take. None are shared if one of them is of no flow, or of many versions."""
    versions = {(run.flow_id, run.flow_version) for run in runs}
    if not 0 < len(versions) <= MOST_VERSIONS or any(flow_id is None for flow_id, _ in versions):
        return SharedInputs(schema={}, values={})
    stored = FlowVersion.objects.filter(
        flow_id__in={flow_id for flow_id, _ in versions}, number__in={number for _, number in versions}
    )
    schemas: dict[Any, Any] = {
        (flow_id, number): schema
        for flow_id, number, schema in stored.values_list("flow_id", "number", "inputs_schema")
    }
    first, *others = [(schemas.get(version) or {}).get("properties", {}) for version in versions]
    shared = {
        name: {key: value for key, value in rule.items() if key != "default"}
        for name, rule in first.items()
        if isinstance(rule, dict) and all(other.get(name) == rule for other in others)
    }
    return SharedInputs(schema={"type": "object", "properties": shared}, values=_values(runs, shared))


def _values(runs: Sequence[Run], rules: Mapping[str, Json]) -> dict[str, Counter[str]]:
    """Count the values of the inputs, but not of those that are never shown."""
    of_runs = RunInputs.objects.filter(run_id__in=[run.id for run in runs])
    short = of_runs.annotate(size=loads.size_of("inputs")).filter(size__lte=SHORT_BYTES)
    shown = [name for name, rule in rules.items() if not rule.get("writeOnly")]
    values = {name: Counter[str]() for name in shown}
    for inputs in short.values_list("inputs", flat=True):
        for name in shown:
            if name in inputs and not has_sealed(value := inputs[name]):
                values[name][value if isinstance(value, str) else orjson.dumps(value).decode()] += 1
    return values


def retry_run(*, caller: Caller, run: Run, inputs: Json, is_whole: bool = False) -> Execution:
    """Run what has not completed in the tree of a run again, or the whole tree, with the inputs of the run.

    These `inputs` replace those with the same names. Raises TasksError.
    """
    again = execute_again if is_whole else execute_task
    verb = partial(with_inputs, again, inputs) if inputs else again
    return verb(caller=caller, task_id=run.root_id)
