"""Suspended runs: no task can continue until a question is answered, a time has come or an event, so no worker holds
the run.

The lease of a suspended run has no owner process and expires with the first of its questions, or at
the first of their alarms. Then, or when an answer or a cancellation arrives, the run waits for a worker like any other.
"""

from collections.abc import Collection
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef, QuerySet
from django.db.models.functions import Now

from tasks.models import CancelRequest, Question, Run
from tasks.queue import leases
from tasks.queue.leases import NEVER, SUSPENDED, Claim
from tasks.rules.exceptions import LeaseLost

Heard = Collection[tuple[str, bool]]
MOST_AT_ONCE: Final = 1_000


@transaction.atomic
def suspend(claim: Claim, *, heard: Heard) -> bool:
    """Release a run whose tasks all wait for answers. Raises LeaseLost.

    Returns False if there is an answer, or a cancellation not in `heard`: the (task id, force)
    pairs that have already been carried out.
    """
    held = Run.objects.unfinished().filter(id=claim.run_id, epoch=claim.epoch, claim_token=claim.token)
    if (
        held.select_for_update().first() is None
    ):  # locked first: an answer that arrives meanwhile finds the run suspended
        raise LeaseLost(claim.run_id)
    questions = Question.objects.filter(run_id=claim.run_id, closed_at=None)
    requests = CancelRequest.objects.filter(run_id=claim.run_id)
    if questions.exclude(answered_at=None).exists() or set(requests.values_list("task_id", "force")) - set(heard):
        return False
    requests.delete()
    first = questions.aggregate(end=Min("expires_at"), alarm=Min("alarm_at"))
    until = min(filter(None, first.values()), default=NEVER)
    held.update(lease_owner=SUSPENDED, lease_expires_at=until, claim_token=None, epoch=F("epoch") + 1)
    return True


@transaction.atomic
def resume(run_ids: Collection[str]) -> None:
    """Let a worker take those of the runs that are suspended.

    Call it after the reason is committed.
    """
    if not run_ids:
        return
    locked = Run.objects.unfinished().filter(id__in=run_ids).order_by("id").select_for_update()
    suspended = {run.id for run in locked if run.lease_owner == SUSPENDED}
    if suspended:
        Run.objects.filter(id__in=suspended).update(lease_owner=None, lease_expires_at=None)
        leases.wake([run_id for run_id in run_ids if run_id in suspended])


def sweep() -> None:
    """Let a worker take the suspended runs whose answer, event or cancellation was missed."""
    resume(_suspended_by(Question.objects.filter(closed_at=None, answered_at__isnull=False)))
    resume(_suspended_by(CancelRequest.objects.all()))


def resume_due() -> int:
    """Let a worker take the suspended runs of which a wait is over, in the order of its end, and those that have an alarm.

    Returns how many there were, up to MOST_AT_ONCE.
    """
    ended = _suspended_by(Question.objects.filter(closed_at=None, expires_at__lte=Now()).order_by("expires_at", "id"))
    alarmed = _suspended_by(_with_alarm().filter(alarm_at__lte=Now()).order_by("alarm_at", "id"))
    due = list(dict.fromkeys([*ended, *alarmed]))[:MOST_AT_ONCE]
    resume(due)
    return len(due)


def seconds_until_due() -> float | None:
    """Return in how many seconds the next wait is over, or has an alarm, by the database's clock; None without any."""
    ends = Question.objects.filter(closed_at=None, expires_at__gt=Now()).order_by("expires_at")
    alarms = _with_alarm().filter(alarm_at__gt=Now()).order_by("alarm_at")
    first = [ends.values_list("expires_at", Now()).first(), alarms.values_list("alarm_at", Now()).first()]
    return min(((at - now).total_seconds() for at, now in filter(None, first) if at is not None), default=None)


def _with_alarm() -> "QuerySet[Question]":
    return Question.objects.filter(closed_at=None, answered_at=None, alarm_at__isnull=False)


def _suspended_by(rows: "QuerySet[Any]") -> list[str]:
    """Return the suspended runs of the rows, some of them if they are many."""
    of_row = Run.objects.unfinished().filter(id=OuterRef("run_id"), lease_owner=SUSPENDED)
    return list(dict.fromkeys(rows.filter(Exists(of_row)).values_list("run_id", flat=True)[:MOST_AT_ONCE]))
