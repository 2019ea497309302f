"""Cancelling: a request in a row, which the run's worker carries out; where nothing runs, the rows themselves."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.db import connection, transaction

from accounts.callers import Caller
from tasks import doorbell, events, lanes, metrics, parking
from tasks.engine import Cancel
from tasks.loading import node_of
from tasks.models import CancelRequest, Run, Task
from tasks.status import Status
from tasks.tree import Node, Plan, children_of, descendants, scope_of

Json = dict[str, Any]
BY_REQUEST: Final = "Cancelled by request"
ANSWER_SECONDS: Final = 5.0
"""So long the reply waits for the worker: an executor has two seconds to stop."""
PENDING: Final = "SELECT run_id, task_id, force, message FROM tasks_cancelrequest ORDER BY id LIMIT 10000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of one id: the task, if the caller has one of that id, and the run that has to stop it, if one does."""

    task_id: str
    task: Task | None
    run: Run | None


async def cancel_tasks(
    caller: Caller, *, task_ids: Sequence[str], force: bool = False, error_message: str | None = None
) -> list[Json]:
    """Stop these tasks and everything below them. One answer for each id (contract, section 2, `tasks.cancel`).

    A pending task does not start after this returns; a running one is stopped within two seconds, by `force` at once.
    """
    message = error_message or BY_REQUEST
    asked = await lanes.write(ask, caller=caller, task_ids=task_ids, force=force, message=message)
    await asyncio.gather(*(_stopped(one) for one in asked if one.run is not None))
    return await lanes.read(answers, asked=asked)


@transaction.atomic
def ask(*, caller: Caller, task_ids: Sequence[str], force: bool, message: str) -> list[Asked]:
    """Store what has to be stopped; stop at once what is in no run."""
    mine = Task.objects.for_caller(caller)
    for root_id in sorted(set(mine.filter(id__in=task_ids).values_list("root_id", flat=True))):
        Task.objects.hold_tree(root_id)  # nobody starts it between our look and our word
    found = mine.in_bulk(list(task_ids))
    runs = {
        run.root_id: run for run in Run.objects.unfinished().filter(root_id__in={t.root_id for t in found.values()})
    }
    asked = [
        Asked(task_id=task_id, task=task, run=_cancel_unrun(task, runs.get(task.root_id), message) if task else None)
        for task_id in task_ids
        for task in [found.get(task_id)]
    ]
    CancelRequest.objects.bulk_create(
        [
            CancelRequest(run_id=one.run.id, task_id=one.task_id, force=force, message=message)
            for one in asked
            if one.run is not None
        ]
    )
    doorbell.ring(doorbell.RUNS)
    # Should this fail, a sweep finds them.
    transaction.on_commit(partial(parking.unpark, {one.run.id for one in asked if one.run is not None}), robust=True)
    return asked


def _cancel_unrun(task: Task, run: Run | None, message: str) -> Run | None:
    """End what no run covers, as the rules of the tree say. Returns the run, if the rest is left to it."""
    if Status(task.status).is_terminal:
        return None
    if run is not None and run.target_id == run.root_id:
        return run  # it covers the whole tree
    tree = list(Task.objects.tree(task.root_id))
    nodes = [node_of(each) for each in tree]
    covered = scope_of(run.target_id, nodes) if run else set()
    is_open = {node.id: not node.status.is_terminal for node in nodes}
    doomed = [each for each in [task.id, *descendants(task.id, children_of(nodes))] if is_open[each]]
    if uncovered := [each for each in doomed if each not in covered]:
        ended = _end(uncovered, nodes, covered, message)
        transaction.on_commit(lambda: _count(tree, ended))
    return run if covered.intersection(doomed) else None


def _end(task_ids: Collection[str], nodes: Sequence[Node], covered: Collection[str], message: str) -> dict[str, Status]:
    """Cancel these, and fail what required them. Returns how each task has ended."""
    blocked = Plan(nodes).start(cancelled=task_ids).blocked
    now = datetime.now(UTC)
    ends = {"completed_at": now, "updated_at": now}
    pending = Task.objects.filter(status=Status.PENDING)
    pending.filter(id__in=task_ids).update(status=Status.CANCELLED, error=message, **ends)
    failed = {node.id: cause for node, cause in blocked if node.id not in covered}
    for task_id, cause in failed.items():
        error = f"Not run: required dependency '{cause}' failed"
        pending.filter(id=task_id).update(status=Status.FAILED, error=error, **ends)
    return dict.fromkeys(task_ids, Status.CANCELLED) | dict.fromkeys(failed, Status.FAILED)


def _count(tree: Iterable[Task], ended: Mapping[str, Status]) -> None:
    for task in tree:
        if task.id in ended:
            metrics.finished(task.executor_id, ended[task.id])


async def _stopped(one: Asked) -> None:
    """Return when the run says that the task has ended, with a root the whole tree, or when it takes too long to say so."""
    if one.task is None or one.run is None or Status(one.task.status).is_terminal:
        return
    try:
        async with asyncio.timeout(ANSWER_SECONDS), aclosing(events.follow(one.run.id, after=one.run.last_seq)) as log:
            async for event in log:
                if event["task_id"] == one.task_id and Status(event["status"]).is_terminal and not one.task.is_root:
                    return
    except TimeoutError:
        return  # the answer says so


def answers(*, asked: Sequence[Asked]) -> list[Json]:
    now = Task.objects.in_bulk([one.task_id for one in asked if one.task])
    return [_answer(one, now.get(one.task_id)) for one in asked]


def _answer(one: Asked, now: Task | None) -> Json:
    if one.task is None or now is None:
        return _said(one.task_id, "failed", "Task not found. Check the id, and that the task belongs to you.", None)
    if Status(one.task.status).is_terminal:
        return _said(one.task_id, "failed", f"The task is {one.task.status} already.", now)
    if now.status == Status.CANCELLED:
        return _said(one.task_id, "cancelled", now.error or BY_REQUEST, now)
    if Status(now.status).is_terminal:
        return _said(one.task_id, "failed", f"The task was {now.status} before it could be cancelled.", now)
    return _said(one.task_id, "failed", "The request is stored; its worker has not carried it out yet.", now)


def _said(task_id: str, status: str, message: str, now: Task | None) -> Json:
    said: Json = {
        "task_id": task_id,
        "status": status,
        "message": message,
        "current_status": now.status if now else None,
    }
    if now and now.result is not None:
        said["result"] = now.result
    if now and now.token_usage is not None:
        said["token_usage"] = now.token_usage
    return said


def pending_cancels() -> defaultdict[str, list[Cancel]]:
    """Run id → what somebody wants stopped in it. Few rows: they go with their run."""
    found: defaultdict[str, list[Cancel]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(PENDING)
        for run_id, task_id, force, message in cursor.fetchall():
            found[run_id].append(Cancel(task_id, bool(force), message))
    return found


def forget_finished() -> None:
    """Delete the requests of runs that are over."""
    if CancelRequest.objects.exists():  # asked every few seconds, and almost never true
        CancelRequest.objects.exclude(run_id__in=Run.objects.unfinished().values("id")).delete()
