"""Relations between tasks: pure functions on plain nodes.

Nothing here recurses, so a chain of 10,000 tasks is as safe as a single task.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, Final, Protocol

from tasks.rules.maps import MappedTask, templates_of
from tasks.status import Status

WORKFLOW: Final = "workflow:"
"""The prefix of the executors that are workflows."""


@dataclass(slots=True, kw_only=True)
class Node:
    """A task, reduced to what the tree rules need.

    `dependencies` are (task id, required) pairs; a lower `priority` runs first. The required ones in
    `needless` may also be skipped. `spawned` are the ids of the tasks that it has spawned: it waits for
    them.
    """

    id: str
    parent_id: str | None
    dependencies: tuple[tuple[str, bool], ...]
    priority: int
    position: int
    is_group: bool
    needless: frozenset[str] = frozenset()
    status: Status = Status.PENDING
    spawned_by: str | None = None
    is_live: bool = False
    """Whether it is a workflow, whose code runs beside what it has spawned."""
    spawned: list[str] = field(default_factory=list)


class StoredTask(Protocol):
    """The attributes of a task, a row or the engine's own object, that the tree rules read."""

    id: str
    parent_id: str | None
    priority: int
    position: int
    executor_id: str | None
    status: str
    spawned_by: str | None

    @property
    def dependencies(self) -> Sequence[Mapping[str, Any]]: ...


def node_of(task: StoredTask) -> Node:
    """Convert a task to a node."""
    return Node(
        id=task.id,
        parent_id=task.parent_id,
        dependencies=tuple([(item["id"], item["required"]) for item in task.dependencies]),
        priority=task.priority,
        position=task.position,
        is_group=task.executor_id is None,
        needless=frozenset([item["id"] for item in task.dependencies if item.get("on_skip") == "run"]),
        status=Status(task.status),
        spawned_by=task.spawned_by,
        is_live=(task.executor_id or "").startswith(WORKFLOW),
    )


def nodes_of(tasks: Iterable[StoredTask]) -> list[Node]:
    """Convert the tasks of a tree to nodes."""
    tasks = list(tasks)
    nodes = {task.id: node_of(task) for task in tasks}
    for task in tasks:
        if task.spawned_by in nodes:
            nodes[task.spawned_by].spawned.append(task.id)
    return list(nodes.values())


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Return the path of one cycle, its first id repeated at the end; None if there is no cycle."""
    done: set[str] = set()
    for start in edges:
        path = {} if start in done else {start: iter(edges[start])}
        while path:
            here = next(reversed(path))
            for there in path[here]:
                if there in path:
                    way = list(path)
                    return [*way[way.index(there) :], there]
                if there not in done:
                    path[there] = iter(edges.get(there, ()))
                    break
            else:
                done.add(here)
                del path[here]
    return None


def children_of(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """Map each parent id to the ids of its children, in the order of the nodes."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for node in nodes:
        if node.parent_id is not None:
            children[node.parent_id].append(node.id)
    return dict(children)


def descendants(root_id: str, children: Mapping[str, list[str]]) -> list[str]:
    """Return the ids of all tasks below a task, level by level, without the task itself."""
    found = [root_id]
    for task_id in found:
        found.extend(children.get(task_id, ()))
    return found[1:]


def scope_of(target_id: str, nodes: Iterable[Node]) -> set[str]:
    """Return what an execution of `target_id` covers.

    That is the task, its descendants, and what these need and has not completed. A group needs its
    children. A completed task does not run again, so it needs nothing; but tasks that it has added may not be over.
    """
    by_id = {node.id: node for node in nodes}
    children = children_of(by_id.values())
    queue = [target_id, *descendants(target_id, children)]
    scope, seen = set(queue), set(queue)
    for task_id in queue:
        needs_nothing = task_id != target_id and by_id[task_id].status is Status.COMPLETED
        for node in [by_id[each] for each in needs_of(by_id[task_id], children) if each in by_id and each not in seen]:
            is_left = node.spawned_by == task_id and not node.status.is_terminal
            if node.status is not Status.COMPLETED:
                if needs_nothing and not is_left:
                    continue
                scope.add(node.id)
            seen.add(node.id)
            queue.append(node.id)
    return scope


def needs_of(node: Node, children: Mapping[str, list[str]]) -> list[str]:
    """Return what the task waits for: its dependencies, what it has spawned and, for a group, its children."""
    needed = [*(task_id for task_id, _ in node.dependencies), *node.spawned]
    return needed + children.get(node.id, []) if node.is_group else needed


def dependants_of(ids: Iterable[str], nodes: Iterable[Node]) -> set[str]:
    """Return all transitive dependents of these tasks, without the tasks themselves."""
    dependants: defaultdict[str, list[str]] = defaultdict(list)
    for node in nodes:
        for task_id, _ in node.dependencies:
            dependants[task_id].append(node.id)
    return beyond(ids, dependants)


def waiting_for(ids: Iterable[str], nodes: Iterable[Node]) -> set[str]:
    """Return all that transitively waits for these tasks: dependents and enclosing groups."""
    return beyond(ids, waiters(nodes))


def waiters(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """Map each task id to the ids of the tasks that wait for it."""
    nodes = list(nodes)
    children = children_of(nodes)
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for node in nodes:
        for task_id in needs_of(node, children):
            waiting[task_id].append(node.id)
    return dict(waiting)


def with_needs(ids: Iterable[str], nodes: Iterable[Node]) -> set[str]:
    """Return these tasks and all that they transitively wait for."""
    by_id = {node.id: node for node in nodes}
    children = children_of(by_id.values())
    queue = list(ids)
    found = set(queue)
    for task_id in queue:
        needed = [need for need in needs_of(by_id[task_id], children) if need in by_id and need not in found]
        found.update(needed)
        queue.extend(needed)
    return found


def beyond(ids: Iterable[str], edges: Mapping[str, list[str]]) -> set[str]:
    """Return what the edges lead to from these ids, without the ids themselves."""
    queue = list(ids)
    given = frozenset(queue)
    found = set(queue)
    for task_id in queue:
        fresh = [there for there in edges.get(task_id, ()) if there not in found]
        found.update(fresh)
        queue.extend(fresh)
    return found - given


def copy_scope(target_id: str, nodes: Iterable[Node]) -> set[str]:
    """Return what a copy of `target_id` includes: its subtree and all dependents of the subtree."""
    nodes = list(nodes)
    subtree = {target_id, *descendants(target_id, children_of(nodes))}
    return subtree | dependants_of(subtree, nodes)


def mean_progress(nodes_progress: Iterable[float]) -> float:
    """Return the progress of a tree, 0.0 to 1.0: the mean over its tasks."""
    values = list(nodes_progress)
    return fsum(values) / len(values) if values else 0.0


class ScopedTask(StoredTask, MappedTask, Protocol):
    """The attributes of a task that are read here."""


def covered_by(target_id: str, tasks: Iterable[ScopedTask]) -> set[str]:
    """Return the ids of what an execution of the task covers in its tree: see `scope_of`.

    A map or a loop that has not completed also needs what its template depends on, since the copies will. Templates are
    covered with it, although they never run themselves.
    """
    tasks = list(tasks)
    templates = templates_of(tasks)
    completed = {task.id for task in tasks if task.status == Status.COMPLETED} if templates else set()
    over = {part.id for map_id in templates.keys() & completed for part in templates[map_id]}
    if not over and any(task.id == target_id and task.parent_id is None for task in tasks):
        return {task.id for task in tasks}  # as `scope_of` would find: the root's descendants are all others
    return scope_of(target_id, nodes_of(task for task in tasks if task.id not in over or task.id == target_id))
