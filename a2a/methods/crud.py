"""Methods that store, change, copy and delete tasks."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from django.conf import settings
from msgspec import UNSET, Meta, UnsetType

from a2a.core.mapping import native_task, native_tree
from a2a.core.parsing import OnlyWith, Params, Problem, RequiredWith, Text, Texts, texts
from a2a.methods.execute import is_large
from a2a.methods.method import OPERATOR, TREE_ERRORS, Response, Rest, method
from a2a.methods.params import TASK_TO_STORE, TASKS_TO_STORE, Tags, WebhookConfig
from a2a.methods.responses import ScheduleType, StoredTree, Task
from a2a.methods.results import DataResult, TaskResult
from a2a.methods.task_schemas import NewTask
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.providers import SentKey
from tasks import models
from tasks.rules import exceptions as errors
from tasks.rules.field_rules import SET_BY_SERVER, TASK_FIELDS
from tasks.rules.strict_json import Json
from tasks.rules.task_schedules import LONGEST_TEXT, MOST_NUMBER, WRITTEN
from tasks.services import trees
from tasks.services.messages.webhooks import with_webhook
from tasks.services.runs.run_inputs import with_tags
from tasks.services.schedules import task_schedules
from tasks.services.trees import Created, copies, editing
from tasks.services.trees.editing import EDITABLE
from tasks.services.trees.idempotency import Token, once
from tasks.storage import loads

NOT_A_COPY: Problem = (
    "origin_type",
    "must be 'copy' or absent: every copy is a tree of its own, which can be changed and run. To keep results, use "
    "copy_mode 'full'",
)
SAYS_NOTHING: Mapping[str, Any] = MappingProxyType({"recursive": True, "link_task_ids": None, "reset_fields": {}})
"""Parameters that the predecessor's command sends with each clone, with the values that ask for what a copy is."""
FEW: Final = 20
"""A reply with so many new tasks is made in the event loop."""
Expression = Annotated[str, Meta(max_length=LONGEST_TEXT)]


class Create(Params, frozen=True, kw_only=True):
    """tasks.create: an object with `tasks`, or the list of tasks, or one task."""

    CONDITIONS = (
        OnlyWith("webhook_config", "execute", reason="without a run there are no events"),
        OnlyWith("tags", "execute", reason="they belong to a run"),
    )
    tasks: Annotated[Any, Meta(extra_json_schema={"anyOf": [TASK_TO_STORE, TASKS_TO_STORE]})]
    id_conflict: Literal["rename", "error"] = "rename"
    execute: bool = False
    tags: Tags | None = None
    """Words by which `runs.list` finds the run."""
    webhook_config: WebhookConfig | None = None

    def contradictions(self) -> list[Problem]:
        return super().contradictions() or (self.webhook_config.problems if self.webhook_config else [])

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        is_one_task = isinstance(value, dict) and "tasks" not in value and value.keys() & TASK_FIELDS.keys()
        return {"tasks": value} if is_one_task or isinstance(value, list) else super().named(value)


class Update(Params, frozen=True, kw_only=True):
    """tasks.update: the fields to change. The rules for tasks validate their values."""

    ALIASES = MappingProxyType({"id": "task_id"})
    NULLABLE = frozenset({"params", "schemas", *WRITTEN})
    HINTS = MappingProxyType(
        dict.fromkeys(("parent_id", "user_id"), "cannot be changed: a task keeps its parent and owner")
        | dict.fromkeys(SET_BY_SERVER, "read only: set by the server")
    )
    task_id: Text
    name: Any | UnsetType = UNSET
    priority: Any | UnsetType = UNSET
    inputs: Any | UnsetType = UNSET
    params: Any | UnsetType = UNSET
    schemas: Any | UnsetType = UNSET
    dependencies: Any | UnsetType = UNSET
    schedule_type: ScheduleType | Literal[""] | UnsetType | None = UNSET
    schedule_expression: Expression | UnsetType | None = UNSET
    """The timing, in the format of the type: `docs/reference/tasks.md`. Type and expression that are empty delete the schedule."""
    schedule_enabled: bool | UnsetType | None = UNSET
    schedule_start_at: Expression | UnsetType | None = UNSET
    schedule_end_at: Expression | UnsetType | None = UNSET
    max_runs: Annotated[int, Meta(ge=1, le=MOST_NUMBER)] | UnsetType | None = UNSET

    @property
    def changes(self) -> dict[str, Any]:
        return {name: value for name in EDITABLE if (value := getattr(self, name)) is not UNSET}

    @property
    def schedule(self) -> dict[str, Any]:
        """Return the given fields of the schedule."""
        return {name: value for name in WRITTEN if (value := getattr(self, name)) is not UNSET}


class Delete(Params, frozen=True, kw_only=True):
    """tasks.delete"""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    force: bool = False


class Copy(Params, frozen=True, kw_only=True):
    """tasks.copy"""

    CONDITIONS = (
        RequiredWith("custom_task_ids", "copy_mode", "custom"),
        OnlyWith("custom_task_ids", "copy_mode", "custom"),
    )
    ALIASES = MappingProxyType({"id": "task_id", "custom_include_children": "children"})
    task_id: Text
    children: bool = False
    copy_mode: Literal["minimal", "full", "custom"] = "minimal"
    custom_task_ids: Texts | None = None
    reset_fields: Texts | None = None
    save: bool = True
    origin_type: Annotated[str, Meta(extra_json_schema={"enum": ["copy"]})] | None = None
    """A parameter of the predecessor, which knew other kinds of copies."""

    def contradictions(self) -> list[Problem]:
        return [*super().contradictions(), *([] if self.origin_type in (None, "copy") else [NOT_A_COPY])]


class Clone(Copy, frozen=True, kw_only=True):
    """tasks.clone"""

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        named = super().named(value).items()
        return {name: given for name, given in named if name not in SAYS_NOTHING or given != SAYS_NOTHING[name]}


class Deletion(Response, frozen=True, kw_only=True):
    """The number of deleted tasks, and how many of them were descendants."""

    success: bool
    task_id: str
    deleted_count: int
    children_deleted: int


def _copied(native: Any) -> tuple[int, Any]:
    """201 with the new tree; 200 with the list of tasks if `save` is false."""
    return (200 if isinstance(native, list) else 201), native


@method(
    "tasks.create",
    role=OPERATOR,
    answer=StoredTree,
    rest=[
        Rest(
            "createTasks",
            "POST tasks/",
            answers={201: StoredTree},
            errors=(errors.LimitReached, *TREE_ERRORS),
            rules={"required": ["tasks"]},
            instead=(TASK_TO_STORE, TASKS_TO_STORE),
        )
    ],
)
async def create(
    caller: Caller, given: Create, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Store a tree and, with `execute`, run it."""
    # The reply will have these tasks; the rules for trees refuse more.
    count = min(len(given.tasks), settings.APFLOW.limits.tasks_per_tree) if isinstance(given.tasks, list) else 1
    loads.spend(loads.ROW_BYTES * count)  # before it is stored
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
    store = partial(once, verb, caller=caller, token=token, **arguments)
    if is_large(given.tasks):
        from a2a.methods.large_inputs import moved  # noqa: PLC0415  (few requests have them)

        async with moved(caller, {"tasks": given.tasks}, None) as (small, _):
            created = await pools.write(partial(store, **small))
    else:
        created = await pools.write(store)
    metadata = {"ids": created.ids, "warnings": created.warnings}
    if created.webhook is not None and given.webhook_config is not None:
        metadata["webhook"] = given.webhook_config.facts_of(created.webhook)
    return TaskResult(
        native=await _native(created.tasks) | metadata,
        task=created.root,
        run=created.run,
        with_children=True,
        metadata=metadata,
    )


async def _native(tasks: Sequence[models.Task]) -> Json:
    """Return the new tree with its schedule. That of a few tasks takes less time than the turn of a thread."""
    if len(tasks) <= FEW and all(task.schedule_id is None for task in tasks):
        return native_tree(tasks)
    await pools.read(task_schedules.attach, tasks)
    return await pools.read(native_tree, tasks)


@method(
    "tasks.update",
    role=OPERATOR,
    answer=Task,
    rest=[
        Rest(
            "updateTask",
            "PATCH tasks/<task_id>/",
            errors=(errors.StatusConflict, *TREE_ERRORS),
            rules={"minProperties": 1},
        )
    ],
)
async def update(caller: Caller, given: Update) -> TaskResult:
    """Change a pending task, or the schedule of any root."""
    task = await pools.write(
        task_schedules.update_task,
        caller=caller,
        task_id=given.task_id,
        changes=given.changes,
        schedule=given.schedule,
    )
    return TaskResult(native=native_task(task), task=task)


@method(
    "tasks.delete",
    role=OPERATOR,
    answer=Deletion,
    rest=[Rest("deleteTask", "DELETE tasks/<task_id>/", errors=(errors.CannotDelete,))],
)
async def delete(caller: Caller, given: Delete) -> DataResult:
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


@method(
    "tasks.copy",
    role=OPERATOR,
    answer=StoredTree | list[NewTask],
    rest=[
        Rest(
            "copyTask",
            "POST tasks/<task_id>/copy/",
            answers={201: StoredTree, 200: list[NewTask]},
            answered=_copied,
            errors=TREE_ERRORS,
        )
    ],
)
@method("tasks.clone", given=Clone, role=OPERATOR, answer=StoredTree | list[NewTask])
async def copy(caller: Caller, given: Copy) -> TaskResult | DataResult:
    """Copy tasks into a new tree or, with `save: false`, return the tasks that would be stored."""
    run: Callable[..., Awaitable[copies.Copy]] = pools.write if given.save else pools.prepare
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
