"""Tasks and how many there are of each status."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from django.db import models

from accounts.callers import Caller
from aipartnerupflow.growth import HANDLED, NOT_RUN
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.models.choices import STATUS_CHOICES, choices_of
from tasks.rules.field_rules import RUN_FIELDS
from tasks.status import Effect, Status

IS_ROOT = models.Q(parent_id=None)


class TaskQuerySet(models.QuerySet["Task"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the tasks that the caller may see and change: the single home of authorization."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)

    def tree(self, root_id: str) -> Self:
        """Return all tasks of a tree, in the order of the request that created it, without those of parts of workflows that are over."""
        return self.filter(root_id=root_id, part=None).order_by("position")

    def hold_tree(self, root_id: str) -> None:
        """Lock the tree: until the transaction ends, no other one can change or start it.

        Only the root's row is locked. Locks on many rows, in another order than the journal's,
        would cause deadlocks.
        """
        self.filter(id=root_id).select_for_update().values_list("id").first()

    def hold_trees(self, root_ids: Collection[str]) -> list[str]:
        """Lock these trees, but for those that another transaction holds: it does not wait. Returns their ids."""
        held = self.filter(id__in=root_ids).select_for_update(skip_locked=True)
        return list(held.values_list("id", flat=True))

    def state_of_tree(self, root_id: str) -> tuple[int, datetime]:
        """Return what differs after a change of the tree while it does not run: how many tasks it has, and its latest change."""
        found = self.tree(root_id).order_by().aggregate(count=models.Count("id"), latest=models.Max("updated_at"))
        return found["count"], found["latest"]


class Task(models.Model):
    """A task of a tree.

    `parent_id` groups tasks; only `dependencies` decide the order.

    Parents and roots are plain ids: trees are created, read and deleted as a whole, 10,000 rows at
    a time.
    """

    PRIVATE: ClassVar = frozenset(
        {
            *("position", "executor_id", "effect", "label", "steps", "schedule_id", "cause_id", "call", "part"),
            *("checks", "cached_from"),
        }
    )
    """The columns that callers do not see."""
    SHOWN: ClassVar[Sequence[str]]
    """The columns of each task in a reply, in its order. Only tasks that were added to their tree show `spawned_by`, too, and only
    those that did not run `not_run` and `cause_id`, those with results of checks `checks`, and those that took the result of an equal one
    `cached_from`."""
    JSON: ClassVar[Sequence[str]]
    TIMES: ClassVar[Sequence[str]]
    TRUTHS: ClassVar[Sequence[str]]
    """The columns in SHOWN that are JSON, times, or true or false."""

    id = models.CharField(primary_key=True, max_length=255, default=new_id)
    root_id = models.CharField(max_length=255)
    parent_id = models.CharField(max_length=255, null=True)
    position = models.PositiveIntegerField(default=0)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES, default=Status.PENDING)
    priority = models.PositiveSmallIntegerField(default=2)
    executor_id = models.CharField(max_length=255, null=True)
    dependencies = JsonTextField(default=list)
    inputs = JsonTextField(default=dict)
    schemas = JsonTextField(null=True)
    params = JsonTextField(null=True)
    result = JsonTextField(null=True)
    error = models.TextField(null=True)
    progress = models.FloatField(default=0.0)
    attempt = models.PositiveIntegerField(default=0)
    effect = models.CharField(max_length=7, choices=choices_of(Effect), null=True)  # of the attempt in hand
    token_usage = JsonTextField(null=True)
    checks = JsonTextField(null=True)  # the results of `params.checks`
    has_children = models.BooleanField(default=False)
    has_copy = models.BooleanField(default=False)
    original_task_id = models.CharField(max_length=255, null=True)
    origin_type = models.CharField(max_length=6, default="create")
    label = models.CharField(max_length=255, null=True)  # its id in the request, if another one is stored
    spawned_by = models.CharField(max_length=255, null=True)  # the task that added it to the tree while that ran
    steps = JsonTextField(null=True)  # of a task that takes steps (`tasks.rules.steps`); private to the executor
    call = JsonTextField(null=True)  # of a step of a workflow: its place in the code (`tasks.rules.steps`); private
    part = models.PositiveIntegerField(
        null=True
    )  # the part of a workflow (`Again`) to which it belongs, if that is over
    cause_id = models.CharField(max_length=255, null=True)  # the failed task that kept it from running
    cached_from = JsonTextField(null=True)  # the task, run and time of the result that it took (`params.cache`)
    schedule_id = models.CharField(max_length=36, null=True)  # of a root that runs again at times
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["root_id", "part", "position"], name="task_of_tree"),
            models.Index(fields=["user_id", "-created_at", "-id"], name="root_of_owner", condition=IS_ROOT),
            models.Index(fields=["-created_at", "-id"], name="root_recent", condition=IS_ROOT),
            models.Index(fields=["-created_at", "-id"], name="task_recent"),
            # With the owner or without: the database can walk only one of two indexes in the order of a page.
            models.Index(
                fields=["user_id", "status", "-created_at", "-id"], name="root_status_of_owner", condition=IS_ROOT
            ),
            models.Index(fields=["status", "-created_at", "-id"], name="root_status", condition=IS_ROOT),
            models.Index(
                fields=["user_id", "name", "-created_at", "-id"], name="root_name_of_owner", condition=IS_ROOT
            ),
            models.Index(fields=["name", "-created_at", "-id"], name="root_name", condition=IS_ROOT),
            models.Index(
                fields=["executor_id", "root_id"],
                name="task_of_executor",
                condition=models.Q(executor_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"

    @property
    def is_root(self) -> bool:
        return self.id == self.root_id

    @property
    def shown_status(self) -> str:
        """The status for people. `tasks.dashboard.looks` marks the tasks that may fail."""
        if self.cause_id is not None:
            return NOT_RUN
        return HANDLED if self.status == Status.FAILED and "may_fail" in vars(self) else self.status


_IDS: Final = ("id", "parent_id", "root_id")
COLUMNS: Final = tuple(field.attname for field in Task._meta.concrete_fields)
Task.SHOWN = (*_IDS, *(name for name in COLUMNS if name not in {*Task.PRIVATE, *_IDS, "spawned_by"}))
Task.JSON, Task.TIMES, Task.TRUTHS = (
    [name for name in Task.SHOWN if isinstance(Task._meta.get_field(name), kind)]
    for kind in (JsonTextField, models.DateTimeField, models.BooleanField)
)
TO_RUN_AGAIN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        field.attname: field.get_default()
        for field in Task._meta.concrete_fields
        if field.attname in {*RUN_FIELDS, "effect", "cause_id"}
    }
)
"""The values of a task that is to run again, by column."""


class TaskCountQuerySet(models.QuerySet["TaskCount"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the numbers of the tasks that the caller may see."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class TaskCount(models.Model):
    """Numbers of tasks, in a view (`tasks.storage.counts`).

    The sum over the rows of an owner, level and status is exact. A single row means nothing.
    """

    pk = models.CompositePrimaryKey("user_id", "is_root", "status")
    user_id = models.CharField(max_length=255)
    is_root = models.BooleanField()
    status = models.CharField(max_length=11)
    tasks = models.BigIntegerField()

    objects = TaskCountQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        managed = False
        db_table = "tasks_counted"

    def __str__(self) -> str:
        return f"{self.tasks} {self.status}"
