"""Methods that store, change and delete."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from django.conf import settings

from a2a.core.mapping import native_task, native_tree
from a2a.core.parsing import texts
from a2a.methods import params
from a2a.methods.results import DataResult, TaskResult, webhook_metadata
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.header import SentKey
from tasks.models import Task
from tasks.rules.strict_json import Json
from tasks.services import trees
from tasks.services.messages.webhooks import with_webhook
from tasks.services.runs.run_tags import with_tags
from tasks.services.schedules import task_schedules
from tasks.services.trees import Created, copies, editing
from tasks.services.trees.copies import Copy
from tasks.services.trees.idempotency import Token, once
from tasks.storage import loads


async def create(
    caller: Caller, given: params.Create, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Store a tree and, with `execute`, run it."""
    loads.spend(loads.ROW_BYTES * _count(given.tasks))  # before it is stored
    arguments = {
        "tasks": given.tasks,
        "id_conflict": given.id_conflict,
        "execute": given.execute,
        "llm_key": llm_key,
    }
    verb: Callable[..., Created] = partial(task_schedules.with_schedule, trees.create_tree)
    if given.tags is not None:
        verb = partial(with_tags, verb, given.tags)
    if given.webhook_config is not None:
        verb = partial(with_webhook, verb, given.webhook_config.arguments)
    created = await pools.write(partial(once, verb, caller=caller, token=token, **arguments))
    metadata = {"ids": created.ids, "warnings": created.warnings}
    metadata |= webhook_metadata(created.webhook, given.webhook_config)
    return TaskResult(
        native=await pools.read(_native, created.tasks) | metadata,
        task=created.root,
        run=created.run,
        with_children=True,
        metadata=metadata,
    )


def _native(tasks: Sequence[Task]) -> Json:
    task_schedules.attach(tasks)
    return native_tree(tasks)


def _count(tasks: object) -> int:
    """Return the number of tasks that the reply will have; the rules for trees refuse more than these."""
    most: int = settings.APFLOW.limits.tasks_per_tree
    return min(len(tasks), most) if isinstance(tasks, list) else 1


async def update(caller: Caller, given: params.Update) -> TaskResult:
    """Change a pending task, or the schedule of any root."""
    task = await pools.write(
        task_schedules.update_task,
        caller=caller,
        task_id=given.task_id,
        changes=given.changes,
        schedule=given.schedule,
    )
    return TaskResult(native=native_task(task), task=task)


async def delete(caller: Caller, given: params.Delete) -> DataResult:
    """Delete a task and its descendants."""
    deleted = await pools.write(editing.delete_task, caller=caller, task_id=given.task_id, force=given.force)
    return DataResult(
        native={
            "success": True,
            "task_id": deleted.task_id,
            "deleted_count": deleted.deleted_count,
            "children_deleted": deleted.deleted_count - 1,
        }
    )


async def copy(caller: Caller, given: params.Copy) -> TaskResult | DataResult:
    """Copy tasks into a new tree or, with `save: false`, return the tasks that would be stored."""
    run: Callable[..., Awaitable[Copy]] = pools.write if given.save else pools.prepare
    copied = await run(
        copies.copy_tree,
        caller=caller,
        task_id=given.task_id,
        children=given.children,
        copy_mode=given.copy_mode,
        custom_task_ids=texts(given.custom_task_ids),
        reset_fields=texts(given.reset_fields),
        save=given.save,
    )
    if not given.save:
        return DataResult(native=copied.requests)
    metadata = {"ids": copied.ids, "warnings": copied.warnings}
    native = await pools.read(native_tree, copied.tasks) | metadata
    return TaskResult(native=native, task=copied.root, with_children=True, metadata=metadata)
