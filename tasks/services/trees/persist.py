"""Convert a validated request to rows and insert them, and rows back to a request."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
from django.db import transaction

from apflow_site.db.prepared import unsaved
from tasks.models import Task
from tasks.models.trees import COLUMNS
from tasks.rules.files import MARK
from tasks.rules.maps import templates_of
from tasks.rules.references import renamed_params
from tasks.rules.specs import NORMAL_PRIORITY, TaskSpec, TreeSpec, labelled, names_of
from tasks.rules.steps import heard, taken_up
from tasks.rules.strict_json import Json
from tasks.rules.templates import LABEL, rename_placeholders
from tasks.rules.tree import WORKFLOW
from tasks.services.files.references import note_trees
from tasks.services.secrets.write_only import sealed_inputs
from tasks.storage.bulk import insert_many
from tasks.telemetry import metrics

GIVEN: Final = tuple(field.name for field in fields(TaskSpec) if field.name in COLUMNS)
"""The columns that a task of a request has values for."""


def steps_in(tree: Sequence[Task]) -> dict[str, Json]:
    """Map the ids of the tasks of the tree that take steps to what is stored of them."""
    if not any(task.spawned_by for task in tree):
        return {}
    rows = Task.objects.tree(tree[0].root_id).exclude(steps=None)
    return {task_id: steps or {} for task_id, steps in rows.values_list("id", "steps")}


def decided_in(tree: Sequence[Task], calls: Mapping[str, Json]) -> set[str]:
    """Return the ids of the tasks of the tree that do not run again: their end is a result that was taken up."""
    steps = steps_in(tree)
    return (taken_up(tree, steps) if steps else set()) | (heard(tree, calls) if calls else set())


def calls_in(tree: Sequence[Task]) -> dict[str, Json]:
    """Map the ids of the tasks of the tree that the code of workflows has called to their calls."""
    if not any((task.executor_id or "").startswith(WORKFLOW) for task in tree):
        return {}
    rows = Task.objects.tree(tree[0].root_id).exclude(call=None)
    return {task_id: call or {} for task_id, call in rows.values_list("id", "call")}


def rows_of(spec: TreeSpec, *, ids: dict[str, str], user_id: str) -> list[Task]:
    """Return the unsaved tasks with these ids. Inputs that schemas mark `writeOnly` are encrypted."""
    now = datetime.now(UTC)
    root_id = ids[spec.root_id]
    names = names_of(spec)
    rows = [_row(task, ids=ids, names=names, root_id=root_id, user_id=user_id, now=now) for task in spec.tasks]
    # A task of a template without an id gets its name as its label, if nothing else in the tree has it: results of
    # maps and rounds have the tasks by their labels.
    used = Counter(names.values())
    parts = (task for template in templates_of(spec.tasks).values() for task in template if task.has_new_id)
    labels = {ids[task.id]: task.name for task in parts if used[task.name] == 1 and LABEL.fullmatch(task.name)}
    for row in rows:
        row.label = labels.get(row.id, row.label)
    return rows


def _row(
    task: TaskSpec, *, ids: dict[str, str], names: dict[str, str], root_id: str, user_id: str, now: datetime
) -> Task:
    needs = labelled(task, names, ids)
    renamed = {names[item.id]: ids[item.id] for item in needs if item.label is None and ids[item.id] != names[item.id]}
    inputs = rename_placeholders(task.inputs, renamed)
    values = {name: getattr(task, name) for name in GIVEN} | {
        "id": ids[task.id],
        "root_id": root_id,
        "parent_id": ids[task.parent_id] if task.parent_id else None,
        "user_id": user_id,
        "dependencies": [item.stored(ids) for item in needs],
        "inputs": sealed_inputs(inputs, executor_id=task.executor_id, schemas=task.schemas, owner=user_id),
        "params": renamed_params(task.params, renamed),
        "label": None if task.has_new_id or ids[task.id] == task.id else task.id,
        "created_at": now,
        "updated_at": now,
    }
    return unsaved(Task, values)


class Above(Protocol):
    """The attributes of a task from which those below it get theirs."""

    id: str
    root_id: str
    user_id: str
    priority: int


def row_below(task: Above, *, now: datetime, **values: Any) -> Task:
    """Return the unsaved row of a task that another one adds to its tree: right below it, unless the values of columns say more."""
    of_the_tree = {"root_id": task.root_id, "user_id": task.user_id, "spawned_by": task.id, "parent_id": task.id}
    own = {"priority": task.priority, "dependencies": [], "created_at": now, "updated_at": now}
    return unsaved(Task, of_the_tree | own | values)


def store(rows: Sequence[Task]) -> None:
    """Insert a tree in the caller's transaction, with its references to files; metrics count its tasks after the commit.

    Raises IntegrityError, and InvalidParams for files that its owner does not have.
    """
    insert_many(rows, Task)
    if MARK in orjson.dumps([(row.inputs, row.params, row.result) for row in rows]):
        note_trees(rows)
    executor_ids = [row.executor_id for row in rows]
    transaction.on_commit(lambda: metrics.created(executor_ids))


def written_down(tasks: Sequence[Task]) -> list[Json]:
    """Return a stored tree as a create request, without default values.

    It has the ids of the request that it came from; those in use are replaced on creation.
    """
    ids = {task.id: task.label or task.id for task in tasks}
    if len(set(ids.values())) < len(ids):  # two parts of the tree come from different requests
        ids = {task_id: task_id for task_id in ids}
    return [_written_task(task, ids) for task in tasks]


def _written_task(task: Task, ids: Mapping[str, str]) -> Json:
    renamed = {item["id"]: ids[item["id"]] for item in task.dependencies if "as" not in item}
    needs = [item | {"id": ids[item["id"]]} for item in task.dependencies]
    for need in needs:
        if need.get("as") == need["id"]:
            del need["as"]
    request = {
        "id": ids[task.id],
        "name": task.name,
        "parent_id": ids[task.parent_id] if task.parent_id else None,
        "priority": task.priority if task.priority != NORMAL_PRIORITY else None,
        "schemas": task.schemas,
        "params": renamed_params(task.params, renamed),
        "inputs": rename_placeholders(task.inputs, renamed),
        "dependencies": [item["id"] if item == {"id": item["id"], "required": True} else item for item in needs],
    }
    return {name: value for name, value in request.items() if value not in (None, [], {})}
