"""Convert a validated request to rows, and insert them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import transaction

from tasks.models import Task
from tasks.rules.references import renamed_params
from tasks.rules.specs import TaskSpec, TreeSpec, labelled, names_of
from tasks.rules.templates import rename_placeholders
from tasks.storage.bulk import insert_many
from tasks.telemetry import metrics


def rows_of(spec: TreeSpec, *, ids: dict[str, str], user_id: str) -> list[Task]:
    """Return the unsaved tasks with these ids."""
    now = datetime.now(UTC)
    root_id = ids[spec.root_id]
    names = names_of(spec)
    return [_row(task, ids=ids, names=names, root_id=root_id, user_id=user_id, now=now) for task in spec.tasks]


def _row(
    task: TaskSpec, *, ids: dict[str, str], names: dict[str, str], root_id: str, user_id: str, now: datetime
) -> Task:
    needs = labelled(task, names, ids)
    renamed = {names[item.id]: ids[item.id] for item in needs if item.label is None and ids[item.id] != names[item.id]}
    return Task(
        id=ids[task.id],
        root_id=root_id,
        parent_id=ids[task.parent_id] if task.parent_id else None,
        position=task.position,
        user_id=user_id,
        label=None if task.has_new_id or ids[task.id] == task.id else task.id,
        name=task.name,
        priority=task.priority,
        executor_id=task.executor_id,
        dependencies=[item.stored(ids) for item in needs],
        inputs=rename_placeholders(task.inputs, renamed),
        schemas=task.schemas,
        params=renamed_params(task.params, renamed),
        has_children=task.has_children,
        created_at=now,
        updated_at=now,
    )


def store(rows: Sequence[Task]) -> None:
    """Insert a tree in the caller's transaction; metrics count its tasks after the commit.

    Raises IntegrityError.
    """
    insert_many(rows, Task)
    executor_ids = [row.executor_id for row in rows]
    transaction.on_commit(lambda: metrics.created(executor_ids))
