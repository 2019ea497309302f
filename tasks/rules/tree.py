"""Which tasks may run, which are blocked, which belong together: pure functions on plain nodes.

Nothing here recurses, so a chain of 10,000 tasks is as safe as a single task.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Protocol

from tasks.status import Status


@dataclass(slots=True, kw_only=True)
class Node:
    """A task, reduced to what the tree rules need.

    `dependencies` are (task id, required) pairs; a lower `priority` runs first. The required ones in
    `needless` may also be skipped.
    """

    id: str
    parent_id: str | None
    dependencies: tuple[tuple[str, bool], ...]
    priority: int
    position: int
    is_group: bool
    needless: frozenset[str] = frozenset()
    status: Status = Status.PENDING


class StoredTask(Protocol):
    """The attributes of a task, a row or the engine's own object, that the tree rules read."""

    id: str
    parent_id: str | None
    priority: int
    position: int
    executor_id: str | None
    status: str

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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What changes when one task settles.

    `ready` is ordered by (priority, position). `blocked` pairs each node that fails for it, in order of
    discovery, with the id of the required dependency that did not complete; `skipped` those that are
    skipped, with the one that was.
    """

    ready: list[Node]
    blocked: list[tuple[Node, str]]
    skipped: list[tuple[Node, str]]


class Plan:
    """Tracks which nodes are ready or blocked, one settled task at a time; O(edges) in total.

    Takes the nodes of a run and the finished nodes outside it. A dependency on any other id counts
    as satisfied, and a node that a crashed run left in progress counts as pending. The plan updates
    `Node.status`.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.id: node for node in nodes}
        self._waiting = dict.fromkeys(self._nodes, 0)
        self._unwanted: dict[str, str] = {}
        """By the ids of nodes that require a skipped one: its id. They are skipped when all others are over, unless they fail."""
        self._dependants: defaultdict[str, list[tuple[Node, bool]]] = defaultdict(list)
        self._unfinished = sum(not node.status.is_terminal for node in self._nodes.values())
        for node in self._nodes.values():
            for task_id, required in node.dependencies:
                self._wait(node, task_id, required)
            parent = self._nodes.get(node.parent_id) if node.parent_id is not None else None
            if parent is not None and parent.is_group:
                self._wait(parent, node.id, False)

    @property
    def is_finished(self) -> bool:
        """Whether every node of the plan is terminal."""
        return not self._unfinished

    def is_last(self, task_id: str) -> bool:
        """Whether this node is the only one that is not terminal."""
        return self._unfinished == 1 and not self._nodes[task_id].status.is_terminal

    def outcome(self, *, may_fail: Collection[str] = ()) -> Status:
        """Failed if any node failed, else cancelled if any was cancelled, else completed.

        The failures of those that `may_fail` do not count.
        """
        statuses = {
            node.status for node in self._nodes.values() if node.status is not Status.FAILED or node.id not in may_fail
        }
        return next((status for status in (Status.FAILED, Status.CANCELLED) if status in statuses), Status.COMPLETED)

    def start(self, *, cancelled: Iterable[str] = ()) -> Step:
        """Return the nodes that are ready or blocked initially; the `cancelled` ones never start.

        Call it once, before any `settle`.
        """
        for task_id in cancelled:
            self._finish(self._nodes[task_id], Status.CANCELLED)
        terminal = [node for node in self._nodes.values() if node.status.is_terminal]
        free = [node for node in self._nodes.values() if not self._waiting[node.id] and not node.status.is_terminal]
        return self._advance(terminal, free)

    def settle(self, task_id: str, status: Status) -> Step:
        """Record that a task became terminal. A task that already is terminal does not change.

        Raises KeyError for an id that is not in the plan, ValueError for a status that is not
        terminal.
        """
        return self.settle_together([task_id], status)

    def settle_together(self, task_ids: Iterable[str], status: Status) -> Step:
        """Settle several different tasks, none of which is blocked by another of them."""
        if not status.is_terminal:
            raise ValueError(
                f"{', '.join(map(repr, task_ids))} cannot settle as '{status}': that is not a terminal status."
            )
        nodes = [node for node in [self._nodes[task_id] for task_id in task_ids] if not node.status.is_terminal]
        for node in nodes:
            self._finish(node, status)
        return self._advance(nodes, [])

    def _wait(self, node: Node, task_id: str, required: bool) -> None:
        if task_id in self._nodes:
            self._waiting[node.id] += 1
            self._dependants[task_id].append((node, required))

    def _finish(self, node: Node, status: Status) -> None:
        node.status = status
        self._unfinished -= 1

    def _advance(self, settled: list[Node], ready: list[Node]) -> Step:
        """Update the dependents of the settled nodes.

        A node that becomes blocked, or is skipped, is settled too, and appended to `settled`.
        """
        blocked: list[tuple[Node, str]] = []
        skipped: list[tuple[Node, str]] = []
        for node in settled:
            for dependant, required in self._dependants.pop(node.id, ()):
                if dependant.status.is_terminal:
                    continue
                self._waiting[dependant.id] -= 1
                if required and node.status is Status.SKIPPED and node.id not in dependant.needless:
                    self._unwanted.setdefault(dependant.id, node.id)
                elif required and node.status not in (Status.COMPLETED, Status.SKIPPED):
                    self._finish(dependant, Status.FAILED)
                    blocked.append((dependant, node.id))
                    settled.append(dependant)
                    continue
                if self._waiting[dependant.id]:
                    continue
                if (cause := self._unwanted.get(dependant.id)) is None:
                    ready.append(dependant)
                else:
                    self._finish(dependant, Status.SKIPPED)
                    skipped.append((dependant, cause))
                    settled.append(dependant)
        ready.sort(key=_by_urgency)
        return Step(ready=ready, blocked=blocked, skipped=skipped)


def _by_urgency(node: Node) -> tuple[int, int]:
    return node.priority, node.position


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
    children. A descendant that has completed does not run again, so it needs nothing.
    """
    by_id = {node.id: node for node in nodes}
    children = children_of(by_id.values())
    below = descendants(target_id, children)
    scope = {target_id, *below}
    queue = [target_id, *(task_id for task_id in below if by_id[task_id].status is not Status.COMPLETED)]
    for task_id in queue:
        for needed in needs_of(by_id[task_id], children):
            if needed not in scope and needed in by_id and by_id[needed].status is not Status.COMPLETED:
                scope.add(needed)
                queue.append(needed)
    return scope


def needs_of(node: Node, children: Mapping[str, list[str]]) -> list[str]:
    """Return what the task waits for: its dependencies and, for a group, its children."""
    needed = [task_id for task_id, _ in node.dependencies]
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
