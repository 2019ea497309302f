"""Suspended runs: no task can continue until a question is answered, a time has come or an event, or a worker has the code of a workflow, so
no worker holds the run.

The lease of a suspended run has no owner process and expires with the first of its questions, or at
the first of their alarms. Then, or when an answer or a cancellation arrives, the run waits for a worker like any other. One that needs code
does so when a worker has it: `workflow:research@1f2e`, in this version, or `workflow:research`, in any.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef, QuerySet
from django.db.models.functions import Now

from apflow_site.db.prepared import Prepared
from tasks.models import CancelRequest, Question, Run, RunQuerySet
from tasks.queue import leases, notify
from tasks.queue.leases import NEVER, SUSPENDED, Claim
from tasks.rules.exceptions import LeaseLost
from tasks.rules.strict_json import Json

Heard = Collection[tuple[str, bool]]
MOST_AT_ONCE: Final = 1_000
BETWEEN: Final = "\n"
"""The text between the needs of a run."""


@transaction.atomic
def suspend(claim: Claim, *, heard: Heard, needing: Mapping[str, Json] = MappingProxyType({})) -> bool:
    """Release a run whose tasks all wait for answers, or need code that this worker does not have. Raises LeaseLost.

    `needing` maps workflows that do to what they `need`, and the `difference` that a replay of the code here has met.

    Returns False if there is an answer, or a cancellation not in `heard`: the (task id, force)
    pairs that have already been carried out.
    """
    held = Run.objects.unfinished().filter(id=claim.run_id, epoch=claim.epoch, claim_token=claim.token)
    if (
        held.select_for_update().first() is None
    ):  # locked first: an answer that arrives meanwhile finds the run suspended
        raise LeaseLost(claim.run_id)
    questions = Question.objects.filter(run_id=claim.run_id, closed_at=None)
    requests = list(CancelRequest.objects.filter(run_id=claim.run_id))
    asked = {(request.task_id, request.force) for request in requests}
    if questions.exclude(answered_at=None).exists() or asked - set(heard):
        return False
    # Delete only the requests read above. A request that commits later is still pending, and its transaction resumes the run.
    CancelRequest.objects.filter(id__in=[request.id for request in requests]).delete()
    first = questions.aggregate(end=Min("expires_at"), alarm=Min("alarm_at"))
    until = min(filter(None, first.values()), default=NEVER)
    changes: Json = {"lease_owner": SUSPENDED, "lease_expires_at": until, "claim_token": None, "epoch": F("epoch") + 1}
    if needing:
        changes["needs"] = BETWEEN.join(sorted({each["need"] for each in needing.values()}))
        changes["needed_for"] = {"since": datetime.now(UTC).isoformat(), "tasks": needing}
    held.update(**changes)
    if needing:
        notify.send(notify.RUNS)  # a worker that has the code takes it
    return True


def resume(run_ids: Collection[str]) -> None:
    """Let a worker take those of the runs that are suspended.

    Call it after the reason is committed.
    """
    if run_ids:
        _resume(run_ids)


@transaction.atomic
def _resume(run_ids: Collection[str]) -> None:
    locked = Run.objects.unfinished().filter(id__in=run_ids).order_by("id").select_for_update()
    suspended = {run.id for run in locked if run.lease_owner == SUSPENDED}
    if suspended:
        Run.objects.filter(id__in=suspended).update(lease_owner=None, lease_expires_at=None)
        leases.wake([run_id for run_id in run_ids if run_id in suspended])


def needing() -> RunQuerySet:
    """Return the suspended runs that need code."""
    return Run.objects.unfinished().filter(needs__isnull=False, lease_owner=SUSPENDED)


def resume_needing(has_code: Callable[[Sequence[str]], bool], *, but: Collection[str]) -> None:
    """Let a worker take the suspended runs that need code which there is, without those that it has tried in vain."""
    kinds = [kind for (kind,) in NEEDED.rows() if kind and has_code(kind.split(BETWEEN))]
    if kinds:
        resume(list(needing().filter(needs__in=kinds).exclude(id__in=but).values_list("id", flat=True)[:MOST_AT_ONCE]))


def sweep() -> None:
    """Let a worker take the suspended runs whose answer, event or cancellation was missed."""
    resume(_run_ids(ANSWERED))
    resume(_run_ids(CANCELLED))


def resume_due() -> int:
    """Let a worker take the suspended runs of which a wait is over, in the order of its end, and those that have an alarm.

    Returns how many there were, up to MOST_AT_ONCE.
    """
    due = list(dict.fromkeys([*_run_ids(ENDED), *_run_ids(ALARMED)]))[:MOST_AT_ONCE]
    resume(due)
    return len(due)


def seconds_until_first() -> float | None:
    """Return in how many seconds the first wait is over, or has an alarm, by the database's clock; None without any.

    Zero or less if one is over, also while its run is not suspended.
    """
    return _soonest(FIRST_END, FIRST_ALARM)


def seconds_until_due() -> float | None:
    """Return the same for the first wait that is not over."""
    return _soonest(NEXT_END, NEXT_ALARM)


def _soonest(*queries: "Prepared[tuple[datetime | None, datetime]]") -> float | None:
    rows = [query.first() for query in queries]
    return min(((at - now).total_seconds() for at, now in filter(None, rows) if at is not None), default=None)


def _ends() -> "QuerySet[Question, tuple[datetime | None, datetime]]":
    """Return when the open waits are over, the first one first, and the time now."""
    ending = Question.objects.filter(closed_at=None, expires_at__isnull=False)
    return ending.order_by("expires_at").values_list("expires_at", Now())


def _alarms() -> "QuerySet[Question, tuple[datetime | None, datetime]]":
    return _with_alarm().order_by("alarm_at").values_list("alarm_at", Now())


def _with_alarm() -> "QuerySet[Question]":
    return Question.objects.filter(closed_at=None, answered_at=None, alarm_at__isnull=False)


def _suspended_by(rows: "QuerySet[Any]") -> "QuerySet[Any, tuple[str]]":
    """Return the suspended runs of the rows, some of them if they are many."""
    of_row = Run.objects.unfinished().filter(id=OuterRef("run_id"), lease_owner=SUSPENDED)
    return rows.filter(Exists(of_row)).values_list("run_id")[:MOST_AT_ONCE]


def _run_ids(query: "Prepared[tuple[str]]") -> list[str]:
    return list(dict.fromkeys(run_id for (run_id,) in query.rows()))


NEEDED: Final = Prepared(lambda: needing().values_list("needs").distinct())
#: Most are asked every second or every few seconds by each server, also one that has nothing to do.
ANSWERED: Final = Prepared(
    lambda: _suspended_by(Question.objects.filter(closed_at=None, answered_at__isnull=False)),
)
CANCELLED: Final = Prepared(lambda: _suspended_by(CancelRequest.objects.all()))
ENDED: Final = Prepared(
    lambda: _suspended_by(
        Question.objects.filter(closed_at=None, expires_at__lte=Now()).order_by("expires_at", "id"),
    )
)
ALARMED: Final = Prepared(
    lambda: _suspended_by(_with_alarm().filter(alarm_at__lte=Now()).order_by("alarm_at", "id")),
)
FIRST_END: Final = Prepared(lambda: _ends()[:1])
NEXT_END: Final = Prepared(lambda: _ends().filter(expires_at__gt=Now())[:1])
FIRST_ALARM: Final = Prepared(lambda: _alarms()[:1])
NEXT_ALARM: Final = Prepared(lambda: _alarms().filter(alarm_at__gt=Now())[:1])
