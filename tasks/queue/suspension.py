"""Suspended runs: no task can continue until a question is answered, so no worker holds the run.

The lease of a suspended run has no owner process and expires with the first of its questions. Then,
or when an answer or a cancellation arrives, the run waits for a worker like any other.
"""

from collections.abc import Collection

from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef, Q
from django.db.models.functions import Now

from tasks.models import CancelRequest, Question, Run
from tasks.queue import leases
from tasks.queue.leases import NEVER, SUSPENDED, Claim
from tasks.rules.exceptions import LeaseLost

Heard = Collection[tuple[str, bool]]


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
    until = questions.aggregate(first=Min("expires_at"))["first"] or NEVER
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
    suspended = sorted(run.id for run in locked if run.lease_owner == SUSPENDED)
    if suspended:
        Run.objects.filter(id__in=suspended).update(lease_owner=None, lease_expires_at=None)
        leases.wake(suspended)


def sweep() -> None:
    """Let a worker take the suspended runs that are due, or whose answer or cancellation was
    missed.
    """
    of_run = {"run_id": OuterRef("id")}
    is_due = Q(lease_expires_at__lt=Now())
    is_answered = Exists(Question.objects.filter(**of_run, closed_at=None, answered_at__isnull=False))
    is_cancelled = Exists(CancelRequest.objects.filter(**of_run))
    suspended = Run.objects.unfinished().filter(lease_owner=SUSPENDED)
    resume(list(suspended.filter(is_due | is_answered | is_cancelled).values_list("id", flat=True)[:1000]))
