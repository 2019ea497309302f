"""The runs that ended, summed up by hour, flow, status and error, and the groups of those that failed.

The commit of a run adds nothing for this but the key of the error of one that failed. `count_hours` adds up each hour
(`RunCount`) once, when it is over and its commits are settled, and the hours of each day. In the hours before and after, and
in a part of an hour, the runs themselves are summed up: any sum is exact, and reads two hours of runs at most. Replays of a
model call are left out: a person tries something, and no run of a flow has failed.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, Sum, Value
from django.db.models.functions import Coalesce, Now

from accounts.callers import LOCAL, Caller
from tasks.models import STATUS_AT, Flow, InstallationFact, Run, RunCount, RunCountQuerySet, RunQuerySet, RunTag
from tasks.queue import leases
from tasks.rules.error_texts import first_line, key_of, pattern_of
from tasks.rules.tags import REPLAY
from tasks.status import Status

HOUR: Final = timedelta(hours=1)
DAY: Final = 24
SETTLED: Final = timedelta(minutes=2)
"""A worker tries a commit again until it loses its lease: until then a run may still come to an hour that is over."""
KEPT: Final = timedelta(days=60)
FACT: Final = "runs_counted"
AT_ONCE: Final = 500
MOST_MOMENTS: Final = 5_000
"""The number of failures of a part of an hour in a chart."""


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def number_of(moment: datetime) -> int:
    """Return the hour as a number: of the hours since 1970."""
    return int(moment.timestamp()) // 3600


def counted_until() -> datetime | None:
    """Return the end of the hours that are counted. None: none is."""
    value = InstallationFact.objects.filter(name=FACT).values_list("value", flat=True).first()
    return None if value is None else datetime.fromisoformat(value)


def count_hours(*, give_up_at: float = 0.0) -> bool:
    """Count the next hour that is over, and more until this moment. Returns whether one may be left.

    Processes that count the same hour at the same time store the same.
    """
    while (hour := _next_hour()) is not None:
        _count(hour)
        if monotonic() >= give_up_at:
            return True
    return False


def _next_hour() -> datetime | None:
    """Return the first hour with runs that is over and not counted, by the clock of the database."""
    since = counted_until() or datetime.now(UTC) - KEPT
    ended = Run.objects.filter(finished_at__gte=since).order_by("finished_at")
    first = ended.annotate(now=Now()).values_list("finished_at", "now").first()
    if first is None or first[0] is None:
        return None
    hour, settled = hour_of(first[0]), max(SETTLED, timedelta(seconds=leases.lease_seconds()))
    return hour if hour + HOUR + settled <= first[1] else None


def _count(hour: datetime) -> None:
    ended = _ended((hour, hour + HOUR))
    _add_missing_keys(ended)
    number, before = number_of(hour), number_of(counted_until() or hour)
    fact = {"value": (hour + HOUR).isoformat(), "updated_at": datetime.now(UTC)}
    with transaction.atomic():
        _store(_summed(ended, "user_id", *EACH), hours=1, hour=number)
        for day in sorted({each // DAY * DAY for each in (before, number)}):  # there are no runs between these hours
            if day + DAY <= number + 1:
                of_day = RunCount.objects.filter(hours=1, hour__gte=day, hour__lt=day + DAY)
                _store(_summed_again(of_day, "user_id", *EACH), hours=DAY, hour=day)
        InstallationFact.objects.update_or_create(name=FACT, defaults=fact)


def _store(rows: Iterable[Any], **time: int) -> None:
    columns = ("user_id", *EACH, *SUMS)
    counts = [
        RunCount(
            **time, **{name: value or "" if name in EACH else value for name, value in zip(columns, row, strict=True)}
        )
        for row in rows
    ]
    RunCount.objects.bulk_create(counts, batch_size=AT_ONCE, ignore_conflicts=True)


def _add_missing_keys(ended: RunQuerySet) -> None:
    """Give a key to the failed runs that ended on a server of before there were keys."""
    ids = defaultdict[str, list[str]](list)
    for run_id, failures in ended.filter(status=Status.FAILED, error_key=None).values_list("id", "failures"):
        ids[key_of(failures[0]["error"] if failures else "")].append(run_id)
    for key, of_key in ids.items():
        for start in range(0, len(of_key), AT_ONCE):
            Run.objects.filter(id__in=of_key[start : start + AT_ONCE]).update(error_key=key)


EACH: Final = ("flow_id", "status", "error_key")
BY_STATUS: Final = (Value(""), "status", Value(""))
SUMS: Final = ("runs", "total_tokens", "cost_nanos", "first_at", "last_at", "newest_id")


def _summed(runs: RunQuerySet, *by: Any) -> list[Any]:
    """Return the sums of the runs, by these columns."""
    grouped: Any = runs.order_by().values_list(*by)
    return list(
        grouped.annotate(
            number=Count("id"),
            tokens=Coalesce(Sum("total_tokens"), 0),
            nanos=Coalesce(Sum("cost_nanos"), 0),
            begin=Min("finished_at"),
            end=Max("finished_at"),
            newest=Max("id"),
        )
    )


def _summed_again(counts: RunCountQuerySet, *by: Any) -> list[Any]:
    grouped: Any = counts.order_by().values_list(*by)
    return list(
        grouped.annotate(
            number=Sum("runs"),
            tokens=Sum("total_tokens"),
            nanos=Sum("cost_nanos"),
            begin=Min("first_at"),
            end=Max("last_at"),
            newest=Max("newest_id"),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Runs of a flow, or of none (""), that ended with a status and, if they failed, with an error.

    The first ended at `first_at`, the last at `last_at`; `newest_id` is the run among them that was created last.
    """

    flow_id: str
    status: str
    error_key: str
    runs: int
    total_tokens: int
    cost_nanos: int
    first_at: datetime
    last_at: datetime
    newest_id: str


def ended_runs(
    *, caller: Caller, since: datetime, until: datetime | None = None, by: Sequence[Any] = EACH
) -> list[Ended]:
    """Return the sums of the caller's runs that ended from `since` on, and before `until`: of EACH or BY_STATUS."""
    counts, runs = _between(caller, since, until)
    return _merged([*(_summed_again(counts, *by) if counts is not None else ()), *_summed(runs, *by)])


def _between(
    caller: Caller, since: datetime, until: datetime | None = None, *, days: bool = True
) -> tuple[RunCountQuerySet | None, RunQuerySet]:
    """Return the counts of the hours between, and the caller's runs that ended before and after these."""
    first = since if since == hour_of(since) else hour_of(since) + HOUR
    done = counted_until()
    last = done if until is None or done is None else min(done, hour_of(until))
    if last is None or last <= first:
        return None, _ended((since, until), caller=caller)
    counts = _counted(caller, number_of(first), number_of(last), days=days)
    return counts, _ended((since, first), (last, until), caller=caller)


def _counted(caller: Caller, first: int, last: int, *, days: bool = True) -> RunCountQuerySet:
    """Return the counts of these hours, all of which are counted: those of whole days by day."""
    begin, end = -(-first // DAY) * DAY, last // DAY * DAY
    spans = [(1, first, last)]
    if days and begin < end:
        spans = [(1, first, begin), (DAY, begin, end), (1, end, last)]
    found = Q()
    for hours, since, until in spans:
        part = Q(hours=hours, hour__gte=since, hour__lt=until)
        found |= part if caller.sees_all else Q(part, user_id=caller.user_id)
    return RunCount.objects.filter(found)


def _ended(*times: tuple[datetime, datetime | None], caller: Caller = LOCAL) -> RunQuerySet:
    """Return the caller's runs that ended then. Replays are left out if they began at most a day before.

    Different indexes have the runs of an owner, and those of all, in order. Each part names the owner for the sake of
    SQLite's plan, as below.
    """
    at = "finished_at" if caller.sees_all else "at"
    owner = Q() if caller.sees_all else Q(user_id=caller.user_id)
    found = Q()
    for since, until in times:
        found |= Q(owner, (f"{at}__gte", since), *(() if until is None else [(f"{at}__lt", until)]))
    began = min(since for since, _ in times) - DAY * HOUR
    replays = RunTag.objects.filter(tag=REPLAY, created_at__gte=began).values("run_id")
    runs = Run.objects.alias(at=STATUS_AT).filter(found, finished_at__isnull=False)
    return runs.exclude(root_id=F("id")).exclude(id__in=replays)


def _merged(rows: Iterable[Any]) -> list[Ended]:
    found = dict[tuple[str, str, str], Ended]()
    for flow_id, status, error_key, runs, tokens, nanos, begin, end, newest in rows:
        key = (flow_id or "", status, error_key or "")
        old = found.get(key)
        found[key] = Ended(
            flow_id=key[0],
            status=status,
            error_key=key[2],
            runs=int(runs) + (old.runs if old else 0),
            total_tokens=int(tokens) + (old.total_tokens if old else 0),
            cost_nanos=int(nanos) + (old.cost_nanos if old else 0),
            first_at=min(begin, old.first_at) if old else begin,
            last_at=max(end, old.last_at) if old else end,
            newest_id=max(newest, old.newest_id) if old else newest,
        )
    return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowShare:
    """The runs of a group that are of one flow. `name` is "" for runs of no flow, and None for a deleted flow."""

    name: str | None
    user_id: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failed runs with one error; of `flows`, those with most of them first.

    `error` is that of its newest run, in one line, and `pattern` what all have in common; both are empty if the runs are
    deleted. `state`: `failing` if the latest run of one of its flows failed so, `over` if a run of each flow has completed
    since, else empty. `newest_id` is the run that was created last. `is_new`: it did not occur in the 30 days before.
    """

    key: str
    error: str
    pattern: str
    runs: int
    flows: Sequence[FlowShare]
    first_at: datetime
    last_at: datetime
    newest_id: str
    state: str
    is_new: bool


FAILING: Final = "failing"
OVER: Final = "over"
BEFORE: Final = timedelta(days=30)


def failure_groups(
    *, caller: Caller, ended: Collection[Ended], since: datetime, most: int
) -> tuple[list[FailureGroup], int]:
    """Return the groups of the failed runs among these that ended since then, and how many groups there are.

    At most `most`: those that still fail first, those that are over last, and of these the largest first.
    """
    by_key = defaultdict[str, list[Ended]](list)
    for each in ended:
        if each.status == Status.FAILED:
            by_key[each.error_key].append(each)
    states = _states(ended, by_key)
    order = {FAILING: 0, "": 1, OVER: 2}
    keys = sorted(by_key, key=lambda key: (order[states[key]], -sum(each.runs for each in by_key[key]), key))[:most]
    ids = {each.flow_id for key in keys for each in by_key[key]}
    found = Flow.objects.filter(id__in=ids).values_list("id", "name", "user_id")
    flows: dict[str, tuple[str | None, str]] = {"": ("", "")}
    flows |= {flow_id: (name, user_id) for flow_id, name, user_id in found}
    newest = {key: max(each.newest_id for each in by_key[key]) for key in keys}
    errors = _errors_of(caller, newest)
    done = min(since, counted_until() or since)
    earlier = _counted(caller, number_of(since - BEFORE), number_of(done)).filter(error_key__in=keys)
    known = set(earlier.values_list("error_key", flat=True).distinct())
    groups = [
        FailureGroup(
            key=key,
            error=first_line(errors.get(key, "")),
            pattern=pattern_of(errors.get(key, "")),
            runs=sum(each.runs for each in by_key[key]),
            flows=[
                FlowShare(name=name, user_id=user_id, runs=each.runs)
                for each in sorted(by_key[key], key=lambda each: (-each.runs, each.flow_id))
                for name, user_id in [flows.get(each.flow_id, (None, ""))]
            ],
            newest_id=newest[key],
            first_at=min(each.first_at for each in by_key[key]),
            last_at=max(each.last_at for each in by_key[key]),
            state=states[key],
            is_new=key not in known,
        )
        for key in keys
    ]
    return groups, len(by_key)


def failures_by_bar(*, caller: Caller, keys: Collection[str], since: datetime, width: int) -> dict[str, Counter[int]]:
    """Map each of these keys of errors to the number of runs that failed so, by so many hours from that of `since` on."""
    found = {key: Counter[int]() for key in keys}
    begin = number_of(since)
    counts, runs = _between(caller, since, days=False)
    if counts is not None:
        by_bar: Any = counts.filter(error_key__in=keys).order_by().values_list("error_key", (F("hour") - begin) / width)
        for key, bar, number in by_bar.annotate(Sum("runs")):
            found[key][bar] += number
    failed: Any = runs.alias(key=Coalesce("error_key", Value("")))  # no index of the key: the time has fewer
    for key, at in failed.filter(key__in=keys).values_list("error_key", "finished_at")[:MOST_MOMENTS]:
        found[key][(number_of(at) - begin) // width] += 1
    return found


def _errors_of(caller: Caller, newest: Mapping[str, str]) -> dict[str, str]:
    """Map the key of each group to the error of its newest run, or of another one if that is deleted."""
    found: dict[str, Any] = dict(Run.objects.filter(id__in=newest.values()).values_list("id", "failures"))
    errors = {}
    for key, run_id in newest.items():
        failures = found.get(run_id)
        if run_id not in found:
            own = Run.objects.for_caller(caller).filter(error_key=key)
            failures = own.order_by("-finished_at").values_list("failures", flat=True).first()
        errors[key] = failures[0]["error"] if failures else ""
    return errors


def _states(ended: Iterable[Ended], by_key: Mapping[str, Collection[Ended]]) -> dict[str, str]:
    """Map each group to its state. Runs of no flow have nothing in common, so they say nothing about each other."""
    latest, completed = dict[str, datetime](), dict[str, datetime]()
    for each in ended:
        if each.status in (Status.COMPLETED, Status.FAILED):
            latest[each.flow_id] = max(each.last_at, latest.get(each.flow_id, each.last_at))
            if each.status == Status.COMPLETED:
                completed[each.flow_id] = each.last_at
    states = {}
    for key, parts in by_key.items():
        of_flows = [each for each in parts if each.flow_id]
        is_over = of_flows and all(
            each.flow_id in completed and completed[each.flow_id] > each.last_at for each in of_flows
        )
        is_failing = any(latest[each.flow_id] == each.last_at for each in of_flows)
        states[key] = FAILING if is_failing else OVER if is_over and len(of_flows) == len(parts) else ""
    return states


def runs_to_retry(*, caller: Caller, key: str, since: datetime, until: datetime, most: int) -> list[Run]:
    """Return the runs of a group that ended from `since` to `until` and whose trees have not run again, the newest first."""
    later = Run.objects.filter(root_id=OuterRef("root_id"), number__gt=OuterRef("number"))
    replay = RunTag.objects.filter(run_id=OuterRef("id"), tag=REPLAY)
    failed = Run.objects.for_caller(caller).filter(error_key=key, finished_at__gte=since, finished_at__lte=until)
    return list(failed.filter(~Exists(later), ~Exists(replay)).order_by("-finished_at", "-id")[:most])
