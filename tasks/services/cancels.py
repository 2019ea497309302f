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
from tasks import events
from tasks.models import CancelRequest, Run, Task
from tasks.queue import notify, suspension
from tasks.rules.tree import Node, Plan, children_of, descendants, node_of, scope_of
from tasks.status import Status
from tasks.storage import pools
from tasks.telemetry import metrics

Json = dict[str, Any]
BY_REQUEST: Final = "Cancelled by request"
NEVER_BEGINS: Final = "The run has not started and will not start. The next free worker records the cancellation."
NOT_YET: Final = "The cancellation is requested; the worker has not stopped the task yet."
ANSWER_SECONDS: Final = 5.0
"""So long the reply waits for the worker: an executor has two seconds to stop."""
PENDING: Final = "SELECT run_id, task_id, force, message FROM tasks_cancelrequest ORDER BY id LIMIT 10000"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the task and all below it. `force`: kill at once instead of asking first."""

    task_id: str
    force: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTarget:
    """What became of one id: the task, if the caller has one of that id, and the run that has to stop it, if one does.

    `below`: what the run has yet to do below a task that has ended itself.
    """

    task_id: str
    task: Task | None
    run: Run | None
    below: frozenset[str] = frozenset()

    @property
    def awaited(self) -> set[str]:
        """The tasks that have to end; none for a root that has not: then the whole run has to."""
        is_whole = self.task is not None and self.task.is_root
        return set(self.below) or (set() if is_whole else {self.task_id})


async def cancel_tasks(
    caller: Caller, *, task_ids: Sequence[str], force: bool = False, error_message: str | None = None
) -> list[Json]:
    """Stop these tasks and everything below them. One answer for each id (contract, section 2, `tasks.cancel`).

    A pending task does not start after this returns; a running one is stopped within two seconds, by `force` at once.
    """
    message = error_message or BY_REQUEST
    asked = await pools.write(ask, caller=caller, task_ids=task_ids, force=force, message=message)
    await asyncio.gather(*(_stopped(one) for one in asked if one.run is not None))
    return await pools.read(answers, asked=asked)


@transaction.atomic
def ask(*, caller: Caller, task_ids: Sequence[str], force: bool, message: str) -> list[CancelTarget]:
    """Store what has to be stopped; stop at once what is in no run."""
    mine = Task.objects.for_caller(caller)
    for root_id in sorted(set(mine.filter(id__in=task_ids).values_list("root_id", flat=True))):
        Task.objects.hold_tree(root_id)  # nobody starts it between our look and our word
    found = mine.in_bulk(list(task_ids))
    runs = {
        run.root_id: run for run in Run.objects.unfinished().filter(root_id__in={t.root_id for t in found.values()})
    }
    asked = [
        _asked(found[task_id], runs.get(found[task_id].root_id), message)
        if task_id in found
        else CancelTarget(task_id=task_id, task=None, run=None)
        for task_id in task_ids
    ]
    CancelRequest.objects.bulk_create(
        [
            CancelRequest(run_id=one.run.id, task_id=one.task_id, force=force, message=message)
            for one in asked
            if one.run is not None
        ]
    )
    notify.send(notify.RUNS)
    # Should this fail, a sweep finds them.
    transaction.on_commit(partial(suspension.resume, {one.run.id for one in asked if one.run is not None}), robust=True)
    return asked


def _asked(task: Task, run: Run | None, message: str) -> CancelTarget:
    """A task that has ended may still have something below it at work."""
    if not Status(task.status).is_terminal:
        return CancelTarget(task_id=task.id, task=task, run=_cancel_unrun(task, run, message))
    below = _open_below(task, run) if run is not None else frozenset()
    return CancelTarget(task_id=task.id, task=task, run=run if below else None, below=below)


def _open_below(task: Task, run: Run) -> frozenset[str]:
    nodes = [node_of(each) for each in Task.objects.tree(task.root_id)]
    is_open = {node.id for node in nodes if not node.status.is_terminal}
    return frozenset(is_open & scope_of(run.target_id, nodes) & {*descendants(task.id, children_of(nodes))})


def _cancel_unrun(task: Task, run: Run | None, message: str) -> Run | None:
    """End what no run covers, as the rules of the tree say. Returns the run, if the rest is left to it."""
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


async def _stopped(one: CancelTarget) -> None:
    """Return when the run says that what is awaited has ended, or when it takes too long to say so."""
    assert one.run is not None  # noqa: S101  (the callers look)
    awaited = one.awaited
    try:
        async with asyncio.timeout(ANSWER_SECONDS), aclosing(events.follow(one.run.id, after=one.run.last_seq)) as log:
            async for event in log:
                if event["task_id"] in awaited and Status(event["status"]).is_terminal:
                    awaited.remove(event["task_id"])
                    if not awaited:
                        return
    except TimeoutError:
        return  # the answer says so


def answers(*, asked: Sequence[CancelTarget]) -> list[Json]:
    now = Task.objects.in_bulk({one.task_id for one in asked if one.task}.union(*(one.below for one in asked)))
    return [_answer(one, now) for one in asked]


def _answer(one: CancelTarget, tasks: Mapping[str, Task]) -> Json:
    now = tasks.get(one.task_id)
    if one.task is None or now is None:
        return _said(one.task_id, "failed", "Task not found. Check the id, and that the task belongs to you.", None)
    if one.below and all(Status(tasks[each].status).is_terminal for each in one.below & tasks.keys()):
        return _said(
            one.task_id,
            "cancelled",
            f"The task was {one.task.status}; its running descendants have been cancelled.",
            now,
        )
    if one.below:
        return _said(one.task_id, "failed", NOT_YET, now)
    if Status(one.task.status).is_terminal:
        return _said(one.task_id, "failed", f"The task is already {one.task.status}.", now)
    if now.status == Status.CANCELLED:
        return _said(one.task_id, "cancelled", now.error or BY_REQUEST, now)
    if Status(now.status).is_terminal:
        return _said(one.task_id, "failed", f"The task was {now.status} before it could be cancelled.", now)
    if now.status == Status.PENDING and one.run is not None and one.run.started_at is None:
        return _said(one.task_id, "cancelled", NEVER_BEGINS, now)
    return _said(one.task_id, "failed", NOT_YET, now)


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
