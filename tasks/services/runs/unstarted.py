"""Ends a run that no worker has taken, in the transaction of the request that cancels it.

A worker would record it only when it has a free place, which may take hours behind other runs.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from django.db import transaction
from django.db.models import QuerySet

from llmkeys import run_secrets
from tasks.models import Run, Task, TaskEvent
from tasks.queue import notify
from tasks.rules.maps import templates_of
from tasks.rules.strict_json import Json
from tasks.rules.tree import children_of, covered_by, descendants, node_of
from tasks.services import waits
from tasks.status import Status
from tasks.storage.bulk import insert_many
from tasks.telemetry import metrics

TEMPLATE: Final = "Template: only copies of it run"
End = tuple[Task, Status, str]
"""A task, how it ends, and its error."""


def cancel(run: Run, *, task_id: str, message: str) -> bool:
    """Cancel the pending tasks of the run and end it. The caller's transaction holds the tree.

    Returns False if a worker has taken the run, or if tasks would remain that are not below `task_id`.
    """
    if run.is_reserved or not _waiting(run).exists():
        return False
    tree = list(Task.objects.tree(run.root_id).defer("inputs", "schemas", "result", "steps", "call"))
    nodes = [node_of(row) for row in tree]
    scope = covered_by(run.target_id, tree)
    rows = [row for row in tree if row.id in scope]
    doomed = {task_id, *descendants(task_id, children_of(nodes))}
    templates = {part.id for template in templates_of(tree).values() for part in template}
    # A template has no run to be cancelled: it ends as in a run that a worker has taken.
    ends: list[End] = [
        (row, Status.SKIPPED, TEMPLATE) if row.id in templates else (row, Status.CANCELLED, message)
        for row in rows
        if row.status == Status.PENDING
    ]
    pending = [row for row, status, _ in ends if status is Status.CANCELLED]
    if not doomed.issuperset(row.id for row in pending):
        return False
    # Do not wait for the lock: a worker locks runs before tasks, and this transaction holds tasks.
    held = _waiting(run).select_for_update(skip_locked=True).first()
    if held is None:  # a worker has taken the run, or is about to
        return False
    run.last_seq = held.last_seq
    now = datetime.now(UTC)
    for end in (Status.CANCELLED, Status.SKIPPED):
        Task.objects.filter(id__in=[row.id for row, status, _ in ends if status is end], status=Status.PENDING).update(
            status=end, error=message if end is Status.CANCELLED else TEMPLATE, completed_at=now, updated_at=now
        )
    events = list(_events(run, rows, ends, message, now))
    insert_many(events, TaskEvent)
    Run.objects.filter(id=run.id).update(status=Status.CANCELLED, finished_at=now, last_seq=events[-1].seq)
    run_secrets.erase([run.id])
    notify.send(notify.EVENTS)
    if run.wait_id is not None:
        waits.end_for_run(run.wait_id, now)
    transaction.on_commit(partial(_count, pending, len(events)))
    return True


def _waiting(run: Run) -> "QuerySet[Run]":
    return Run.objects.unfinished().filter(id=run.id, started_at=None, lease_owner=None)


def _events(run: Run, rows: Sequence[Task], ends: Sequence[End], message: str, now: datetime) -> Iterator[TaskEvent]:
    """Yield the same events as a worker writes: one per task, then `final`."""
    tree_progress = round(sum(row.progress for row in rows) / len(rows), 6)
    target = next(row for row in rows if row.id == run.target_id)
    is_cancelled = any(row is target for row, _, _ in ends)
    last: Json = {
        "type": "final",
        "task_id": target.id,
        "status": Status.CANCELLED,
        "progress": tree_progress,
        "message": f"Run {Status.CANCELLED}",
        "result": None if is_cancelled else target.result,
        "error": message if is_cancelled else target.error,
    }
    own = [
        {
            "type": f"task_{status}",
            "task_id": row.id,
            "status": status,
            "progress": row.progress,
            "message": "",
            "result": None,
            "error": error,
        }
        for row, status, error in ends
    ]
    for seq, event in enumerate([*own, last], start=run.last_seq + 1):
        payload = event | {
            "seq": seq,
            "run_id": run.id,
            "root_task_id": run.root_id,
            "tree_progress": tree_progress,
            "timestamp": now.isoformat(),
            "protocol": "jsonrpc",
        }
        yield TaskEvent(
            run_id=run.id, seq=seq, type=event["type"], task_id=event["task_id"], payload=payload, created_at=now
        )


def _count(cancelled: Sequence[Task], events: int) -> None:
    metrics.published(events)
    for task in cancelled:
        metrics.finished(task.executor_id, Status.CANCELLED)
