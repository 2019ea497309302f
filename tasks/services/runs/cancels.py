"""Cancel tasks: store a request for the run's worker, or update tasks that are in no run."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from django.db import connection, transaction

from accounts.callers import Caller
from apflow_site.db import pools
from apflow_site.db.prepared import Prepared
from tasks import events
from tasks.ids import named
from tasks.models import CancelRequest, Run, Task
from tasks.queue import notify, suspension
from tasks.rules.maps import templates_of
from tasks.rules.plan import NOT_RUN, Plan
from tasks.rules.strict_json import Json
from tasks.rules.tree import children_of, covered_by, descendants, node_of
from tasks.services.runs import unstarted
from tasks.status import Status
from tasks.storage import loads
from tasks.telemetry import metrics

BY_REQUEST: Final = "Cancelled by request"
NEVER_BEGINS: Final = "The run has not started and will not start. The next free worker records the cancellation."
NOT_YET: Final = "The cancellation is requested; the worker has not stopped the task yet."
TEMPLATE: Final = (
    "The task belongs to a template, which runs as copies only. Cancel the map or the loop above it, or its copies."
)
ANSWER_SECONDS: Final = 5.0
"""The seconds that the reply waits for the worker; an executor has two seconds to stop."""
PENDING: Final = "SELECT run_id, task_id, force, message FROM tasks_cancelrequest ORDER BY id LIMIT 10000"


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request to stop the task and all tasks below it.

    `force`: kill at once instead of asking first.
    """

    task_id: str
    force: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTarget:
    """The subjects of a cancellation for one id: the caller's task and the run that has to stop it, if any.

    `below`: the unfinished tasks below a task that has itself ended.
    """

    task_id: str
    task: Task | None
    run: Run | None
    below: frozenset[str] = frozenset()

    @property
    def awaited(self) -> set[str]:
        """The tasks that have to end. Empty for an unfinished root: then the whole run has to end."""
        is_whole = self.task is not None and self.task.is_root
        return set(self.below) or (set() if is_whole else {self.task_id})


async def cancel_tasks(
    caller: Caller, *, task_ids: Sequence[str], force: bool = False, error_message: str | None = None
) -> list[Json]:
    """Stop these tasks and all below them. Returns an answer for each id.

    A pending task does not start after this returns. A running one is stopped within two seconds,
    with `force` at once.
    """
    message = error_message or BY_REQUEST
    asked = await pools.write(ask, caller=caller, task_ids=task_ids, force=force, message=message)
    await asyncio.gather(*(_stopped(target) for target in asked if target.run is not None))
    return await pools.read(answers, asked=asked)


@transaction.atomic
def ask(*, caller: Caller, task_ids: Sequence[str], force: bool, message: str) -> list[CancelTarget]:
    """Insert a CancelRequest for each task that a run has to stop; cancel all others directly."""
    mine = Task.objects.for_caller(caller)
    for root_id in sorted(set(mine.filter(id__in=task_ids).values_list("root_id", flat=True))):
        Task.objects.hold_tree(root_id)  # no other transaction can start it between the check and the request
    found = mine.defer(*loads.JSON_COLUMNS, "steps", "call").in_bulk(list(task_ids))
    runs = {
        run.root_id: run for run in Run.objects.unfinished().filter(root_id__in={t.root_id for t in found.values()})
    }
    asked = [
        _target_of(found[task_id], runs.get(found[task_id].root_id), message)
        if task_id in found
        else CancelTarget(task_id=task_id, task=None, run=None)
        for task_id in task_ids
    ]
    left: list[tuple[Run, str]] = []
    ended = set[str]()
    for target in asked:
        if target.run is None or target.run.id in ended:
            continue
        if unstarted.cancel(target.run, task_id=target.task_id, message=message):  # no worker has taken it
            ended.add(target.run.id)
        else:
            left.append((target.run, target.task_id))
    CancelRequest.objects.bulk_create(
        [CancelRequest(run_id=run.id, task_id=task_id, force=force, message=message) for run, task_id in left]
    )
    notify.send(notify.RUNS)
    # If this fails, a sweep finds the runs.
    transaction.on_commit(partial(suspension.resume, {run.id for run, _ in left}), robust=True)
    return asked


def _target_of(task: Task, run: Run | None, message: str) -> CancelTarget:
    """Return the target for a task. Tasks below a task that has ended may still be running."""
    if not Status(task.status).is_terminal:
        return CancelTarget(task_id=task.id, task=task, run=_cancel_unrun(task, run, message))
    if run is None:
        return CancelTarget(task_id=task.id, task=task, run=None)
    tree = _shape(task)
    nodes = [node_of(row) for row in tree]
    is_open = {node.id for node in nodes if not node.status.is_terminal}
    below = frozenset(is_open & covered_by(run.target_id, tree) & {*descendants(task.id, children_of(nodes))})
    return CancelTarget(task_id=task.id, task=task, run=run if below else None, below=below)


def _shape(task: Task) -> list[Task]:
    """Return the tree of the task, with what decides which tasks belong together."""
    return list(Task.objects.tree(task.root_id).defer("inputs", "schemas", "result", "steps", "call"))


def _cancel_unrun(task: Task, run: Run | None, message: str) -> Run | None:
    """Cancel what no run covers, by the rules of the tree.

    Returns the run if it has to cancel the rest.
    """
    if run is not None and run.target_id == run.root_id:
        return run  # it covers the whole tree
    tree = _shape(task)
    nodes = [node_of(row) for row in tree]
    covered = covered_by(run.target_id, tree) if run else set()
    is_open = {node.id: not node.status.is_terminal for node in nodes}
    doomed = [task_id for task_id in [task.id, *descendants(task.id, children_of(nodes))] if is_open[task_id]]
    if uncovered := [task_id for task_id in doomed if task_id not in covered]:
        blocked = Plan(nodes).start(cancelled=uncovered).blocked
        names = {row.id: row.name for row in tree}
        now = datetime.now(UTC)
        ends = {"completed_at": now, "updated_at": now}
        pending = Task.objects.filter(status=Status.PENDING)
        pending.filter(id__in=uncovered).update(status=Status.CANCELLED, error=message, **ends)
        causes = {row.id: row.cause_id for row in tree if row.cause_id is not None}
        failed = {node.id: cause for node, cause in blocked if node.id not in covered}
        for task_id, cause in failed.items():  # those that require them
            error = f"{NOT_RUN} {named(cause, names[cause])} failed"
            first = causes[task_id] = causes.get(cause, cause)
            pending.filter(id=task_id).update(status=Status.FAILED, error=error, cause_id=first, **ends)
        ended = dict.fromkeys(uncovered, Status.CANCELLED) | dict.fromkeys(failed, Status.FAILED)
        transaction.on_commit(lambda: _count(tree, ended))
    return run if covered.intersection(doomed) else None


def _count(tree: Iterable[Task], ended: Mapping[str, Status]) -> None:
    for task in tree:
        if task.id in ended:
            metrics.finished(task.executor_id, ended[task.id])


async def _stopped(target: CancelTarget) -> None:
    """Wait until the awaited tasks, or the run, have ended; at most `ANSWER_SECONDS`."""
    assert target.run is not None  # noqa: S101  (checked by the callers)
    awaited = target.awaited
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            aclosing(events.follow(target.run.id, after=target.run.last_seq)) as log,
        ):
            async for event in log:
                if event["task_id"] in awaited and Status(event["status"]).is_terminal:
                    awaited.remove(event["task_id"])
                    if not awaited:
                        return
    except TimeoutError:
        return  # the answer reports it


def answers(*, asked: Sequence[CancelTarget]) -> list[Json]:
    """Return the reply for each target. Partial results are left out if all of them are too large for one response."""
    targets = {target.task_id for target in asked if target.task}
    now = Task.objects.defer(*loads.JSON_COLUMNS, "steps", "call").in_bulk(
        targets.union(*(target.below for target in asked))
    )
    found = Task.objects.filter(id__in=targets).exclude(result=None)
    fitting = loads.spend_on_page(dict(found.values_list("id", loads.size_of("result"))), least=0)
    rows = Task.objects.filter(id__in=fitting).values_list("id", "result")
    results = {task_id: {"result": result} for task_id, result in rows}
    pending = {task_id for task_id, task in now.items() if task.status == Status.PENDING}
    left = [target for target in asked if target.run is not None and not target.below and target.task_id in pending]
    one_of_each_tree = {target.task.root_id: target.task for target in left if target.task is not None}.values()
    templates = {
        part.id for task in one_of_each_tree for parts in templates_of(_shape(task)).values() for part in parts
    }
    return [_answer(target, now, templates) | results.get(target.task_id, {}) for target in asked]


def _answer(target: CancelTarget, tasks: Mapping[str, Task], templates: Collection[str]) -> Json:
    now = tasks.get(target.task_id)
    if target.task is None or now is None:
        return _result(
            target.task_id, "failed", "Task not found. Check the id, and that the task belongs to you.", None
        )
    if target.below and all(Status(tasks[task_id].status).is_terminal for task_id in target.below & tasks.keys()):
        return _result(
            target.task_id,
            "cancelled",
            f"The task was {target.task.status}; its running descendants have been cancelled.",
            now,
        )
    if target.below:
        return _result(target.task_id, "failed", NOT_YET, now)
    if Status(target.task.status).is_terminal:
        return _result(target.task_id, "failed", f"The task is already {target.task.status}.", now)
    if now.status == Status.CANCELLED:
        return _result(target.task_id, "cancelled", now.error or BY_REQUEST, now)
    if Status(now.status).is_terminal:
        return _result(target.task_id, "failed", f"The task was {now.status} before it could be cancelled.", now)
    if now.id in templates:
        return _result(target.task_id, "failed", TEMPLATE, now)
    if now.status == Status.PENDING and target.run is not None and target.run.started_at is None:
        return _result(target.task_id, "cancelled", NEVER_BEGINS, now)
    return _result(target.task_id, "failed", NOT_YET, now)


def _result(task_id: str, status: str, message: str, now: Task | None) -> Json:
    result: Json = {
        "task_id": task_id,
        "status": status,
        "message": message,
        "current_status": now.status if now else None,
    }
    if now and now.token_usage is not None:
        result["token_usage"] = now.token_usage
    return result


def pending_cancels() -> defaultdict[str, list[Cancel]]:
    """Map each run id to its cancel requests. There are few rows: they are deleted with their run."""
    found: defaultdict[str, list[Cancel]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(PENDING)
        for run_id, task_id, force, message in cursor.fetchall():
            found[run_id].append(Cancel(task_id, bool(force), message))
    return found


#: Asked every few seconds by each server, also one that has nothing to do.
ANY_REQUEST: Final = Prepared(lambda: CancelRequest.objects.values_list("id")[:1])


def forget_finished() -> None:
    """Delete the requests of finished runs."""
    if ANY_REQUEST.first() is not None:  # a DELETE would take SQLite's lock
        CancelRequest.objects.exclude(run_id__in=Run.objects.unfinished().values("id")).delete()
