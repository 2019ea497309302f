"""Runs created before their tree is known, for A2A messages that need more input.

The message gets its run id now.

Such a run is its own root. No worker claims it: its lease has no owner process and never expires.
It has an event log like any run, which continues when the run gets its tree.
"""

from datetime import UTC, datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import F

from accounts.callers import Caller
from tasks.ids import new_id
from tasks.models import Run, Task, TaskEvent
from tasks.queue import fairness, leases, notify
from tasks.queue.leases import NEVER
from tasks.rules.exceptions import StatusConflict
from tasks.status import Status
from tasks.telemetry import tracing

INPUT: Final = "input"
CREDENTIALS: Final = "credentials"
HOLDERS: Final = {INPUT: "reserved", CREDENTIALS: "reserved_for_key"}
"""Question to the client → the lease owner that marks such a run."""


@transaction.atomic
def reserve(*, caller: Caller, context_id: str) -> Run:
    """Create a run without a tree, owned by the caller. Raises LimitReached."""
    fairness.refuse_if_full(caller.user_id)
    run_id = new_id()
    return Run.objects.create(
        id=run_id,
        root_id=run_id,
        target_id=run_id,
        user_id=caller.user_id,
        context_id=context_id,
        lease_owner=HOLDERS[INPUT],
        lease_expires_at=NEVER,
        created_at=datetime.now(UTC),
    )


@transaction.atomic
def ask(*, run_id: str, question_id: str, text: str, required: str = INPUT) -> None:
    """Publish to the run's subscribers what is still missing.

    Raises StatusConflict if the run no longer waits.
    """
    asked = {"required": required, "question_id": question_id, "text": text, "options": None, "schema": None}
    if not _log(run_id, type_="log", status=Status.PENDING, message=f"waiting for an answer: {text}", result=asked):
        raise _taken(run_id)
    Run.objects.filter(id=run_id).update(lease_owner=HOLDERS[required], asked_at=datetime.now(UTC))


@transaction.atomic
def end(*, run_id: str, status: Status, message: str) -> bool:
    """End the run: `cancelled` by the client or `failed` by the server.

    False: it has its tree, or has already ended.
    """
    if not _log(run_id, type_="final", status=status, message=message):
        return False
    Run.objects.filter(id=run_id).update(
        status=status, finished_at=datetime.now(UTC), lease_owner=None, lease_expires_at=None
    )
    return True


def take(run_id: str, *, task: Task, number: int) -> Run:
    """Give the run its tree and queue it, in the caller's transaction.

    Raises StatusConflict if it no longer waits.
    """
    waiting = Run.objects.unfinished().filter(id=run_id, root_id=F("id"))
    changes: dict[str, Any] = {"root_id": task.root_id, "target_id": task.id, "user_id": task.user_id, "number": number}
    changes |= {"turn": fairness.next_turn(task.user_id), "trace": tracing.current(), "asked_at": datetime.now(UTC)}
    if not waiting.update(**changes, lease_owner=None, lease_expires_at=None):
        raise _taken(run_id)
    leases.enqueue(run_id)
    return Run.objects.get(id=run_id)


def _log(run_id: str, *, type_: str, status: Status, message: str, result: Any = None) -> bool:
    """Store an event of a task that does not exist yet; its id is the run's."""
    run = Run.objects.unfinished().filter(id=run_id, root_id=F("id")).select_for_update().first()
    if run is None:
        return False
    now = datetime.now(UTC)
    seq = run.last_seq + 1
    payload = {
        "type": type_,
        "seq": seq,
        "run_id": run_id,
        "task_id": run_id,
        "root_task_id": run_id,
        "status": status,
        "progress": 0.0,
        "tree_progress": 0.0,
        "message": message,
        "result": result,
        "error": None,
        "timestamp": now.isoformat(),
        "protocol": "jsonrpc",
    }
    TaskEvent.objects.create(run_id=run_id, seq=seq, type=type_, task_id=run_id, payload=payload, created_at=now)
    Run.objects.filter(id=run_id).update(last_seq=seq)
    notify.send(notify.EVENTS)
    return True


def _taken(run_id: str) -> StatusConflict:
    return StatusConflict(
        f"Task '{run_id}' no longer waits for input. Get its current status.", data={"task_id": run_id}
    )
