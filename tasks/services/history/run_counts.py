"""The runs that ended, summed up by hour, flow, status and error, and the groups of those that failed.

The commit of a run adds nothing for this but the key of the error of one that failed. `count_hours` adds up each hour
(`RunCount`) once, when it is over and its commits are settled. In the hours before and after, and in a part of an hour, the
runs themselves are summed up: any sum is exact, and reads two hours of runs at most.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Sum
from django.db.models.functions import Coalesce, Now

from accounts.callers import Caller
from tasks.models import STATUS_AT, Flow, InstallationFact, Run, RunCount, RunQuerySet
from tasks.queue import leases
from tasks.rules.error_texts import first_line, key_of, pattern_of
from tasks.status import Status

HOUR: Final = timedelta(hours=1)
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
    ended = Run.objects.filter(finished_at__gte=hour, finished_at__lt=hour + HOUR).exclude(root_id=F("id"))
    _add_missing_keys(ended)
    rows = [
        RunCount(hour=hour, **dict(zip(COUNTED, (row[0], row[1] or "", row[2], row[3] or "", *row[4:]), strict=True)))
        for row in _summed(ended, "user_id")
    ]
    fact = {"value": (hour + HOUR).isoformat(), "updated_at": datetime.now(UTC)}
    with transaction.atomic():
        RunCount.objects.bulk_create(rows, batch_size=AT_ONCE, ignore_conflicts=True)
        InstallationFact.objects.update_or_create(name=FACT, defaults=fact)


def _add_missing_keys(ended: RunQuerySet) -> None:
    """Give a key to the failed runs that ended on a server of before there were keys."""
    ids = defaultdict[str, list[str]](list)
    for run_id, failures in ended.filter(status=Status.FAILED, error_key=None).values_list("id", "failures"):
        ids[key_of(failures[0]["error"] if failures else "")].append(run_id)
    for key, of_key in ids.items():
        for start in range(0, len(of_key), AT_ONCE):
            Run.objects.filter(id__in=of_key[start : start + AT_ONCE]).update(error_key=key)


SUMS: Final = ("runs", "total_tokens", "cost_nanos", "first_at", "last_at", "newest_id")
COUNTED: Final = ("user_id", "flow_id", "status", "error_key", *SUMS)


def _summed(runs: RunQuerySet, *by: str) -> Iterable[Any]:
    """Return the sums of the runs, by these columns, flow, status and error key."""
    grouped: Any = runs.order_by().values_list(*by, "flow_id", "status", "error_key")
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


def ended_runs(*, caller: Caller, since: datetime, until: datetime | None = None) -> list[Ended]:
    """Return the sums of the caller's runs that ended from `since` on, and before `until`."""
    first = since if since == hour_of(since) else hour_of(since) + HOUR
    done = counted_until()
    last = done if until is None or done is None else min(done, hour_of(until))
    if last is None or last <= first:
        return _merged(_summed(_between(caller, since, until)))
    counted: Any = RunCount.objects.for_caller(caller).filter(hour__gte=first, hour__lt=last).order_by()
    of_hours = counted.values_list("flow_id", "status", "error_key").annotate(
        number=Sum("runs"),
        tokens=Sum("total_tokens"),
        nanos=Sum("cost_nanos"),
        begin=Min("first_at"),
        end=Max("last_at"),
        newest=Max("newest_id"),
    )
    before = _summed(_between(caller, since, first)) if since < first else ()
    return _merged([*before, *of_hours, *_summed(_between(caller, last, until))])


def _between(caller: Caller, since: datetime, until: datetime | None) -> RunQuerySet:
    """Return the caller's runs that ended then. Different indexes have those of an owner, and those of all, in order."""
    ended = Run.objects.for_caller(caller).filter(finished_at__gte=since).exclude(root_id=F("id"))
    ended = ended if until is None else ended.filter(finished_at__lt=until)
    if caller.sees_all:
        return ended
    of_owner: Any = ended.alias(at=STATUS_AT)
    of_owner = of_owner.filter(at__gte=since)
    found: RunQuerySet = of_owner if until is None else of_owner.filter(at__lt=until)
    return found


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
    states = {key: _state_of(parts, ended) for key, parts in by_key.items()}
    order = {FAILING: 0, "": 1, OVER: 2}
    keys = sorted(by_key, key=lambda key: (order[states[key]], -sum(each.runs for each in by_key[key]), key))[:most]
    ids = {each.flow_id for key in keys for each in by_key[key]}
    found = Flow.objects.filter(id__in=ids).values_list("id", "name", "user_id")
    flows: dict[str, tuple[str | None, str]] = {"": ("", "")}
    flows |= {flow_id: (name, user_id) for flow_id, name, user_id in found}
    newest = {key: max(each.newest_id for each in by_key[key]) for key in keys}
    errors = _errors_of(caller, newest)
    earlier = RunCount.objects.for_caller(caller).filter(error_key__in=keys, hour__lt=hour_of(since))
    known = set(earlier.filter(hour__gte=since - BEFORE).values_list("error_key", flat=True).distinct())
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


def failures_by_hour(*, caller: Caller, keys: Collection[str], since: datetime) -> dict[str, Counter[datetime]]:
    """Map each of these keys of errors to the number of runs that failed so, by the hour in which they ended."""
    found = {key: Counter[datetime]() for key in keys}
    first = since if since == hour_of(since) else hour_of(since) + HOUR
    last = max(first, counted_until() or first)
    counted: Any = RunCount.objects.for_caller(caller).filter(error_key__in=keys, hour__gte=first, hour__lt=last)
    for key, hour, runs in counted.order_by().values_list("error_key", "hour").annotate(Sum("runs")):
        found[key][hour] += runs
    for runs_of_part in (_between(caller, since, first), _between(caller, last, None)):
        failed: Any = runs_of_part.filter(status=Status.FAILED, error_key__in=keys)
        for key, at in failed.values_list("error_key", "finished_at")[:MOST_MOMENTS]:
            found[key][hour_of(at)] += 1
    return found


def _errors_of(caller: Caller, newest: Mapping[str, str]) -> dict[str, str]:
    """Map the key of each group to the error of its newest run, or of another one if that is deleted."""
    own = Run.objects.for_caller(caller)
    found: dict[str, Any] = dict(own.filter(id__in=newest.values()).values_list("id", "failures"))
    errors = {}
    for key, run_id in newest.items():
        failures = found.get(run_id)
        if run_id not in found:
            failures = own.filter(error_key=key).order_by("-finished_at").values_list("failures", flat=True).first()
        errors[key] = failures[0]["error"] if failures else ""
    return errors


def _state_of(parts: Collection[Ended], ended: Iterable[Ended]) -> str:
    """Return the state of a group. Runs of no flow have nothing in common, so they say nothing about each other."""
    failed = {each.flow_id: each.last_at for each in parts if each.flow_id}
    latest, completed = dict[str, datetime](), dict[str, datetime]()
    for each in ended:
        if each.flow_id in failed and each.status in (Status.COMPLETED, Status.FAILED):
            latest[each.flow_id] = max(each.last_at, latest.get(each.flow_id, each.last_at))
            if each.status == Status.COMPLETED:
                completed[each.flow_id] = each.last_at
    if any(latest[flow_id] == at for flow_id, at in failed.items()):
        return FAILING
    is_over = failed and all(flow_id in completed and completed[flow_id] > at for flow_id, at in failed.items())
    return OVER if is_over and len(failed) == len(parts) else ""


def runs_to_retry(*, caller: Caller, key: str, since: datetime, until: datetime, most: int) -> list[Run]:
    """Return the runs of a group that ended from `since` to `until` and whose trees have not run again, the newest first."""
    later = Run.objects.filter(root_id=OuterRef("root_id"), number__gt=OuterRef("number"))
    failed = Run.objects.for_caller(caller).filter(error_key=key, finished_at__gte=since, finished_at__lte=until)
    return list(failed.filter(~Exists(later)).order_by("-finished_at", "-id")[:most])
