"""Copy stored tasks to new trees, without changing the history of the originals.

A copy is made like a request: the chosen tasks are converted to what `tasks.create` accepts, and
validated by the same rules.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from django.db import transaction

from accounts.callers import Caller
from aipartnerupflow.executors import ExecutorError
from apflow_site.db.beforehand import beforehand
from tasks.executors.admission import checked
from tasks.executors.filling import filled_inputs
from tasks.executors.workflows import STEP
from tasks.ids import new_id
from tasks.models import Task
from tasks.rules.budgets import without_budget
from tasks.rules.conditions import TooMuchToCompare
from tasks.rules.exceptions import InvalidParams, TaskNotFound
from tasks.rules.field_rules import RUN_FIELDS
from tasks.rules.maps import CannotMap, templates_of
from tasks.rules.places import escaped
from tasks.rules.references import dependency_results, label_of, renamed_params, resolved_inputs, settled_params
from tasks.rules.steps import FAILED_AFTER, PART, heard, superseded, taken_up
from tasks.rules.strict_json import Json
from tasks.rules.templates import LABEL, rename_placeholders
from tasks.rules.tree import (
    Node,
    beyond,
    children_of,
    copy_scope,
    descendants,
    needs_of,
    node_of,
    nodes_of,
    waiters,
    waiting_for,
    with_needs,
)
from tasks.services.secrets.stored_secrets import refuse_unusable
from tasks.services.trees.persist import calls_in, rows_of, steps_in, store
from tasks.services.trees.queries import get_task, tree_of
from tasks.status import Status
from tasks.storage import loads

SPAWNED_AGAIN: Final = "'{}' was added by a task that runs again: change the inputs of that one"
NO_ROOT: Final = "leaves no task that all others can be below: they would be part of a map or a loop. Use 'full'"
MINIMAL: Final = "minimal"
FULL: Final = "full"
CUSTOM: Final = "custom"
#: Fields of a task in a request, besides its name, id and references. A copy inherits them.
REQUEST_FIELDS: Final = ("priority", "inputs", "schemas", "params")
NO_INPUTS: Final[Mapping[str, Json]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The tasks that a copy includes.

    The `fresh` ones are pending; the others keep their completed results. `restarts` maps the ids of workflows to a position of the
    tree: the copy has their steps before it, and among these may be workflows that restart, too.
    """

    taken: set[str]
    fresh: set[str]
    restarts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copied tree.

    `ids` maps each id of the original to that of its copy; `requests` is the list that
    `tasks.create` accepts.
    """

    tasks: list[Task]
    root: Task
    ids: dict[str, str]
    warnings: list[str]
    requests: list[Json]


def copy_tree(
    *,
    caller: Caller,
    task_id: str,
    children: bool = False,
    copy_mode: str = MINIMAL,
    custom_task_ids: Sequence[str] = (),
    reset_fields: Collection[str] = (),
    save: bool = True,
) -> Copy:
    """Copy a task and related tasks as `copy_mode` selects: see `minimal`, `full` and `custom`.

    Nothing is executed.

    `reset_fields` are not copied: inputs, params, schemas and priority get their defaults; any
    field that a run sets makes all copies pending. With `save=False` nothing is stored. Raises
    TaskNotFound, InvalidParams, or what `create_tree` raises.
    """

    def make() -> tuple[Task, Copy]:
        known = [*REQUEST_FIELDS, *RUN_FIELDS]
        if unknown := [name for name in reset_fields if name not in known]:
            raise InvalidParams([("reset_fields", f"'{name}' is not one of {', '.join(known)}") for name in unknown])
        task = get_task(caller=caller, task_id=task_id)
        loads.spend_on(Task.objects.tree(task.root_id), *loads.TASK_COLUMNS)  # the reply contains the copy
        tree = tree_of(task, without=["steps", "call"])
        if copy_mode == CUSTOM:
            extent = custom(custom_task_ids, tree, children=children)
        elif copy_mode == FULL:
            extent = full([task_id], tree)
        else:
            extent = minimal(task_id, tree, children=children)
        if not set(reset_fields) <= set(REQUEST_FIELDS):
            extent = Extent(taken=extent.taken, fresh=extent.taken)
        return task, copied(task, tree, extent, reset=reset_fields)

    if not save:
        return make()[1]
    with transaction.atomic():
        task, copy = beforehand("copy", make, task_id)
        store_copy(task, copy)
    return copy


def copied(
    task: Task,
    tree: Sequence[Task],
    extent: Extent,
    *,
    reset: Collection[str] = (),
    inputs: Mapping[str, Json] = NO_INPUTS,
) -> Copy:
    """Return a new tree with the same owner, and other `inputs` for some fresh tasks. Raises what `create_tree` raises."""
    templates = templates_of(tree)
    restarts = {task_id: position for task_id, position in extent.restarts.items() if task_id not in inputs}
    extent = _unexpanded(replace(extent, restarts=restarts), tree, templates)
    calls = calls_in(tree)
    gone = superseded(tree, calls)
    extent = replace(extent, taken=extent.taken - gone, fresh=extent.fresh - gone)
    kept = extent.taken - extent.fresh
    decided = heard(
        [
            each
            for each in tree
            if each.id in kept or each.id in restarts or each.position == restarts.get(each.spawned_by or "")
        ],
        calls,
    )
    requests = requests_of(tree, extent, top_id=task.id, reset=reset)
    for task_id, given in inputs.items():
        if task_id not in requests:
            raise InvalidParams([("inputs", SPAWNED_AGAIN.format(task_id))])
        requests[task_id]["inputs"] = given
    steps = {requests[each.id]["id"] for each in tree if each.id in requests and each.executor_id == STEP}
    spec = checked(list(requests.values()), is_copy=True, steps=steps)
    if inputs:
        refuse_unusable(spec, owner=task.user_id)
    rows = rows_of(spec, ids={task.id: task.id for task in spec.tasks}, user_id=task.user_id)
    originals = {original.id: original for original in tree}
    ids = {original_id: request["id"] for original_id, request in requests.items()}
    ended = {part.id for template in templates.values() for part in template}
    for row, original_id in zip(rows, requests, strict=True):
        original = originals[original_id]
        row.label = original.label or original.id
        row.spawned_by = ids.get(original.spawned_by or "")
        row.original_task_id, row.origin_type = original.id, "copy"
        call = calls.get(original_id, {})
        goes_on = original_id not in extent.fresh or original_id in restarts
        own = {PART: call[PART]} if PART in call and goes_on else {}
        if row.spawned_by is not None:
            own |= {name: value for name, value in call.items() if name not in (FAILED_AFTER, PART)}
        row.call = own or None
        is_kept = original.status == Status.COMPLETED or original_id in ended or original_id in decided
        if original_id not in extent.fresh and is_kept:
            for name in RUN_FIELDS:
                if name != "error" or original_id in decided:  # of a template that no run has
                    setattr(row, name, getattr(original, name))
    return Copy(
        tasks=rows,
        root=next(row for row in rows if row.is_root),
        ids=ids,
        warnings=list(spec.warnings),
        requests=list(requests.values()),
    )


def store_copy(task: Task, copy: Copy) -> None:
    """Insert the copy of a task in the caller's transaction. Raises TaskNotFound if the task has been deleted meanwhile."""
    if not Task.objects.filter(id=task.id).update(has_copy=True):
        raise TaskNotFound(task.id)
    store(copy.tasks)


def for_execution(task_id: str, tree: Iterable[Task], *, with_children: bool) -> Extent:
    """Select the task, with `with_children` its descendants, and what these depend on."""
    nodes = [node_of(task) for task in tree]
    fresh = {task_id, *(descendants(task_id, children_of(nodes)) if with_children else ())}
    return Extent(taken=fresh | with_needs(_dependencies_of(fresh, nodes), nodes), fresh=fresh)


def minimal(task_id: str, tree: Iterable[Task], *, children: bool) -> Extent:
    """Select the task, its subtree and all dependents; with `children` also what the subtree needs."""
    nodes = [node_of(task) for task in tree]
    taken = copy_scope(task_id, nodes)
    if children:
        subtree = {task_id, *descendants(task_id, children_of(nodes))}
        taken |= with_needs(_dependencies_of(subtree, nodes), nodes)
    return Extent(taken=taken, fresh=taken)


def full(task_ids: Collection[str], tree: Iterable[Task]) -> Extent:
    """Select the whole tree.

    Fresh: these tasks, their subtrees, all their dependents, and the groups and tasks with added ones that wait for these. A workflow
    of which they are steps continues from the first of them, and one that has called it after that call.
    """
    nodes = nodes_of(tree)
    below = children_of(nodes)
    subtree = {*task_ids, *(each for task_id in task_ids for each in descendants(task_id, below))}
    fresh = subtree | waiting_for(subtree, nodes)
    live = {node.id for node in nodes if node.is_live and node.id not in subtree}
    live -= {node.id for node in nodes if any(needed in fresh for needed, _ in node.dependencies)}
    restarts: dict[str, int] = {}
    by_id = {node.id: node for node in nodes}
    for node in map(by_id.__getitem__, subtree):
        while (above := by_id.get(node.spawned_by or "")) is not None:
            if above.id in live:
                position = node.position + (node.id in live)
                restarts[above.id] = min(position, restarts.get(above.id, position))
            node = above
    return Extent(taken={node.id for node in nodes}, fresh=fresh, restarts=restarts)


def custom(task_ids: Sequence[str], tree: Iterable[Task], *, children: bool) -> Extent:
    """Select these tasks, with `children` their descendants, and what they need.

    Raises InvalidParams for an id of another tree.
    """
    nodes = {node.id: node for node in map(node_of, tree)}
    problems = [
        (f"custom_task_ids[{position}]", f"'{task_id}' is not a task of this tree")
        for position, task_id in enumerate(task_ids)
        if task_id not in nodes
    ]
    if problems:
        raise InvalidParams(problems)
    chosen = set(task_ids)
    if children:
        below = children_of(nodes.values())
        chosen.update(*(descendants(task_id, below) for task_id in task_ids))
    taken = with_needs(chosen, nodes.values())
    return Extent(taken=taken, fresh=taken)


def requests_of(tree: Sequence[Task], extent: Extent, *, top_id: str, reset: Collection[str] = ()) -> dict[str, Json]:
    """Map each id to its task as a request with a new id, in the order of the tree.

    `reset` fields are omitted.

    `top_id` becomes the root, unless another task has to be. A dependency outside the copy is
    dropped; if it has completed, its result is added to the inputs.
    """
    tasks = [task for task in tree if task.id in extent.taken]
    parents = _parents(tasks, tree, top_id)
    ids = {task.id: new_id() for task in tasks}
    results = {task.id: task.result for task in tree if task.id not in ids and task.status == Status.COMPLETED}
    requests = {task.id: _request(task, parents[task.id], ids, results, reset) for task in tasks}
    root = next(task for task in tree if task.is_root)
    budget = (root.params or {}).get("budget")
    if budget is not None and "params" not in reset:  # the root of the copy has it
        for task_id, request in requests.items():
            if request["parent_id"] is None:
                request["params"] = (request["params"] or {}) | {"budget": budget}
            elif task_id == root.id:
                request["params"] = without_budget(request["params"])
    return requests


def _request(
    task: Task, parent_id: str | None, ids: Mapping[str, str], results: Mapping[str, Any], reset: Collection[str]
) -> Json:
    request = {name: getattr(task, name) for name in ("name", *REQUEST_FIELDS) if name not in reset}
    # The name by which the task knows a result is written out: the copy has other ids.
    needs = [
        item | {"as": label_of(item)} if LABEL.fullmatch(label_of(item)) else item
        for item in task.dependencies
        if item["id"] in ids
    ]
    taken = {item["id"]: ids[item["id"]] for item in needs if "as" not in item}
    left_out = dependency_results(task.dependencies, results)
    gone = {label_of(item) for item in task.dependencies if item["id"] not in ids}
    try:
        if "inputs" in request:  # with the values of places in results that are not copied
            own = filled_inputs(task, left_out, known=left_out, keeps_literals=True) if left_out else task.inputs
            schema = (task.schemas or {}).get("input_schema", {})
            renamed = rename_placeholders(own, taken)
            request["inputs"] = resolved_inputs(renamed, input_schema=schema, from_dependencies=escaped(left_out))
        if "params" in request:  # with the part decided that asks about dependencies that are not copied
            request["params"] = renamed_params(settled_params(task.params, left_out, gone=gone), taken)
    except (ExecutorError, TooMuchToCompare, CannotMap) as error:
        raise InvalidParams([(f"task '{task.id}'", str(error))]) from None
    return request | {
        "id": ids[task.id],
        "parent_id": ids[parent_id] if parent_id else None,
        "user_id": task.user_id,
        "dependencies": [item | {"id": ids[item["id"]]} for item in needs],
    }


def _unexpanded(extent: Extent, tree: Sequence[Task], templates: Mapping[str, Sequence[Task]]) -> Extent:
    """Return the extent without what its fresh tasks have spawned, and will spawn again, but with their templates.

    A task that takes steps and has not completed begins again in the copy. If it has completed, only those of its tasks that
    completed are copied. Without it, tasks that it has added are copied like any other. A workflow that is not fresh keeps all its
    steps: its code goes on after them.
    """
    parts = {part.id for map_id in templates.keys() & extent.fresh for part in templates[map_id]}
    steps = {task_id: step for task_id, step in steps_in(tree).items() if task_id in extent.taken}
    completed = {task.id for task in tree if task.status == Status.COMPLETED}
    again = extent.fresh | (steps.keys() - completed)
    spawned = taken_up(tree, steps) - completed if steps else set[str]()
    for task in tree:  # what is spawned comes after its spawner
        is_before = task.position < extent.restarts.get(task.spawned_by or "", 0)
        if task.spawned_by in spawned or (task.spawned_by in again and not is_before):
            spawned.add(task.id)
    return Extent(taken=(extent.taken | parts) - spawned, fresh=(extent.fresh | parts) - spawned)


def _dependencies_of(task_ids: Collection[str], nodes: Iterable[Node]) -> set[str]:
    """Return the ids that these tasks name as dependencies."""
    return {needed for node in nodes if node.id in task_ids for needed, _ in node.dependencies}


def _parents(tasks: Sequence[Task], tree: Sequence[Task], top_id: str) -> dict[str, str | None]:
    """Map each task to its parent in the copy: its nearest copied ancestor, or else the root."""
    parent_of = {task.id: task.parent_id for task in tree}
    nodes = [node_of(task) for task in tasks]
    taken = {task.id for task in tasks}
    parents = dict[str, str | None]()
    for task in tasks:
        above = parent_of[task.id]
        while above is not None and above not in taken:
            above = parent_of[above]
        parents[task.id] = above
    may_be_parent = _AllowedParents(nodes)
    for task_id, parent_id in sorted(parents.items(), key=lambda pair: pair[1] or ""):
        above = parent_id
        while above and above != parent_of[task_id] and not may_be_parent(above, task_id):
            above = parents[above]
        parents[task_id] = above
    root_id = _root(top_id, nodes, parents, templates_of(tree))
    return {task_id: parent_id or (root_id if task_id != root_id else None) for task_id, parent_id in parents.items()}


class _AllowedParents:
    """Decides which task may be the parent of which: no child of a group may wait for the group.

    Query the children of one parent together: only the latest parent's waiting tasks are cached.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._waiters = waiters(nodes)
        self._groups = {node.id for node in nodes if node.is_group}
        self._waiting: tuple[str, set[str]] = ("", set())

    def __call__(self, parent_id: str, task_id: str) -> bool:
        if parent_id not in self._groups:
            return True
        if parent_id != self._waiting[0]:
            self._waiting = parent_id, beyond([parent_id], self._waiters)
        return task_id not in self._waiting[1]


def _root(
    top_id: str, nodes: Sequence[Node], parents: Mapping[str, str | None], templates: Mapping[str, Sequence[Task]]
) -> str:
    """Choose the root among the tasks without a parent.

    It is the top ancestor of `top_id`, unless that is a group for which other tasks wait, or has a template, of which
    these would be a part. Raises InvalidParams if there is no other.
    """
    tops = [task_id for task_id, parent_id in parents.items() if parent_id is None]
    wanted = top_id if top_id in parents else tops[0]
    while (above := parents[wanted]) is not None:
        wanted = above
    children = children_of(nodes)
    groups = {node.id for node in nodes if node.is_group}
    needed = {need for node in nodes if parents[node.id] is None for need in needs_of(node, children)}
    awaited = with_needs(needed & parents.keys(), nodes)
    fit = (top for top in [wanted, *tops] if top not in groups or top not in awaited)
    root_id = next((top for top in fit if len(tops) == 1 or top not in templates), None)
    if root_id is None:
        raise InvalidParams([("copy_mode", NO_ROOT)])
    return root_id
