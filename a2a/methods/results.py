"""What a method found: the native result as it is, and the rows from which `/` makes A2A objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db.models import Avg, Count

from a2a.core.mapping import TreeFacts, a2a_message, a2a_task, facts_of, native_task, native_tree
from a2a.live.sse import Stream
from a2a.methods.params import WebhookConfig
from accounts.callers import Caller
from apflow_db import pools
from tasks.ids import new_id
from tasks.models import Run, Task, Webhook
from tasks.rules.strict_json import Json
from tasks.services import queries
from tasks.services.webhooks import secrets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """About one task. `run`: the run that the reply is about, if not the latest; `stream`: what the client wants to follow after it."""

    native: Json
    task: Task
    run: Run | None = None
    stream: Stream | None = None
    with_children: bool = False
    """Whether the A2A Task's metadata shows the tree, or only the task."""
    metadata: Json = field(default_factory=dict)
    """More for the A2A Task's metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskListResult:
    """About many tasks. `next_cursor` counts where the client pages by cursor; None then means the last page."""

    native: Any
    tasks: Sequence[Task]
    by_cursor: bool = False
    next_cursor: str | None = None
    stream: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersResult:
    """One answer for each of many tasks: `native` is the list, each with its `task_id`."""

    native: Sequence[Json]
    stream: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataResult:
    """Not about a task."""

    native: Any
    stream: None = None


def webhook_metadata(webhook: Webhook | None, config: WebhookConfig | None) -> Json:
    """What the reply says of the webhook that was asked for: with what its events are signed, unless the client said that."""
    if webhook is None or config is None:
        return {}
    told = {"id": webhook.id}
    return {"webhook": told if config.token is not None else told | {"signing_key": secrets_of(webhook).token}}


async def as_a2a_task(caller: Caller, result: TaskResult) -> Json:
    """One task, with the results of the whole tree when it is the root."""
    run, tree = await pools.read(_snapshot, caller=caller, task_id=result.task.id, run=result.run)
    task = next(each for each in tree if each.id == result.task.id)
    # What the method said of the task is older than the snapshot, and may say more.
    shown = result.metadata.get("task", {}) | (native_tree(tree) if result.with_children else native_task(task))
    return a2a_task(
        task,
        run=run,
        facts=facts_of(tree),
        results_of=tree if task.is_root else [task],
        metadata=result.metadata | {"task": shown},
    )


async def as_a2a_tasks(caller: Caller, result: TaskListResult) -> Any:
    """Many tasks, each with its own result only; their trees stay where they are. A page of them is a message of its own."""
    shown = [*(await _a2a_tasks(caller, result.tasks)).values()]
    if not result.by_cursor:
        return shown
    return a2a_message({"tasks": shown, "next_cursor": result.next_cursor}, message_id=new_id())


async def as_a2a_answers(caller: Caller, result: AnswersResult) -> list[Json]:
    """Each answer in the metadata of its task; of a task that is not there, it is a message."""
    found = await pools.read(_found, caller=caller, task_ids=[answer["task_id"] for answer in result.native])
    shown = await _a2a_tasks(caller, found)
    for answer in result.native:
        if answer["task_id"] in shown:
            shown[answer["task_id"]]["metadata"]["answer"] = answer
    return [
        shown.get(answer["task_id"]) or a2a_message(answer, message_id=f"{answer['task_id']}-answer")
        for answer in result.native
    ]


async def as_a2a_data(caller: Caller, result: DataResult) -> Json:
    """A message of its own."""
    return a2a_message(result.native, message_id=new_id())


async def as_a2a_copy(caller: Caller, result: TaskResult | DataResult) -> Json:
    """The new tree, or what was not stored."""
    return await (as_a2a_task(caller, result) if isinstance(result, TaskResult) else as_a2a_data(caller, result))


async def _a2a_tasks(caller: Caller, tasks: Sequence[Task]) -> dict[str, Json]:
    """By id, but for those that were deleted since they were found."""
    root_ids = sorted({task.root_id for task in tasks})
    runs = await pools.read(queries.latest_runs, caller=caller, root_ids=root_ids)
    facts = await pools.read(_facts_of_trees, caller=caller, root_ids=root_ids)
    return {
        task.id: a2a_task(
            task,
            run=runs.get(task.root_id),
            facts=facts[task.root_id],
            results_of=[task],
            metadata={"task": native_task(task)},
        )
        for task in tasks
        if task.root_id in facts
    }


def _snapshot(*, caller: Caller, task_id: str, run: Run | None) -> tuple[Run | None, list[Task]]:
    """The run as it is by now, or without one the latest, and the tree at the same time. Raises TaskNotFound."""

    def run_now() -> Run | None:
        if run is None:
            return queries.latest_run(caller=caller, task_id=task_id)
        return Run.objects.filter(id=run.id).first()

    return at_once(run_now, partial(queries.get_tree, caller=caller, task_id=task_id))


def at_once(run_of: Callable[[], Run | None], tree_of: Callable[[], list[Task]]) -> tuple[Run | None, list[Task]]:
    """A tree that was read while its run stood still in its status. A run has few of these, so this ends."""
    run = run_of()
    while True:
        tree = tree_of()
        before, run = run, run_of()
        if _standing(before) == _standing(run):
            return run, tree


def _standing(run: Run | None) -> tuple[str, str] | None:
    return None if run is None else (run.id, run.status)


def _found(*, caller: Caller, task_ids: Sequence[str]) -> list[Task]:
    return list(Task.objects.for_caller(caller).in_bulk(list(task_ids)).values())


def _facts_of_trees(*, caller: Caller, root_ids: Sequence[str]) -> Mapping[str, TreeFacts]:
    tasks = Task.objects.for_caller(caller).filter(root_id__in=root_ids).order_by()
    rows = tasks.values_list("root_id").annotate(Count("id"), Avg("progress"))
    return {root_id: TreeFacts(task_count=count, progress=progress) for root_id, count, progress in rows}
