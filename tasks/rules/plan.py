"""The tasks of a run that may start, are blocked or skipped: pure, on plain nodes.

Nothing here recurses, so a chain of 10,000 tasks is as safe as a single task.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.rules.tree import Node
from tasks.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The items of a map, each as the ids of its tasks. At most `max_parallel` are under way at once."""

    items: Sequence[Sequence[str]]
    max_parallel: int


class Window:
    """Admits the items of one map, in order, as earlier ones end.

    `ended` are the ids of tasks that are over, and `begun` those of tasks that were under way before:
    their items are the first.
    """

    def __init__(self, items: Items, *, ended: frozenset[str], begun: frozenset[str]) -> None:
        self._items = items.items
        self._left = [len(set(item) - ended) for item in self._items]
        self._places = items.max_parallel
        self._is_admitted = [False] * len(self._items)
        under_way = [bool(begun.intersection(item)) for item in self._items]
        self._queue = deque(sorted(range(len(self._items)), key=lambda index: not under_way[index]))

    def admit(self) -> list[str]:
        """Return the ids of the tasks that may now start."""
        admitted = list[str]()
        while self._places > 0 and self._queue:
            index = self._queue.popleft()
            if self._left[index]:
                self._is_admitted[index] = True
                self._places -= 1
                admitted += self._items[index]
        return admitted

    def settle(self, index: int) -> list[str]:
        """Note that a task of the item is over, and return the ids of those that may start for it."""
        self._left[index] -= 1
        if self._left[index] or not self._is_admitted[index]:
            return []
        self._places += 1
        return self.admit()


NOT_RUN: Final = "Not run: required dependency"
"""The start of the error of a blocked task. The name of the dependency follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The changes when one task settles.

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

    def __init__(self, nodes: Iterable[Node], maps: Iterable[Items] = ()) -> None:
        self._nodes: dict[str, Node] = {}
        self._waiting: dict[str, int] = {}
        self._unwanted: dict[str, str] = {}
        """Id of a node that requires a skipped one → the id of that one. They are skipped when all others are over, unless they fail."""
        self._dependants: defaultdict[str, list[tuple[Node, bool]]] = defaultdict(list)
        self._item_of: dict[str, tuple[Window, int]] = {}
        self._unfinished = 0
        self._add(list(nodes), maps)

    @property
    def is_finished(self) -> bool:
        """Whether every node of the plan is terminal."""
        return not self._unfinished

    def is_last(self, task_id: str) -> bool:
        """Return whether this node is the only one that is not terminal."""
        return self._unfinished == 1 and not self._nodes[task_id].status.is_terminal

    def outcome(self, *, spared: Collection[str] = ()) -> Status:
        """Failed if any node failed, else cancelled if any was cancelled, else completed. The `spared` do not count."""
        statuses = {node.status for node in self._nodes.values() if node.id not in spared}
        return next((status for status in (Status.FAILED, Status.CANCELLED) if status in statuses), Status.COMPLETED)

    def grow(self, nodes: Iterable[Node], maps: Iterable[Items] = ()) -> Step:
        """Add pending nodes, spawned by one that is not terminal, and return those that are ready or blocked.

        Their spawner becomes ready again when they are over, if it is still open.
        """
        new = list(nodes)
        self._add(new, maps)
        over = {
            task_id
            for node in new
            for task_id, _ in node.dependencies
            if task_id in self._nodes and self._nodes[task_id].status.is_terminal
        }
        free = [node for node in new if not self._waiting[node.id]]
        return self._advance([self._nodes[task_id] for task_id in sorted(over)], free)

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

    def _add(self, nodes: Sequence[Node], maps: Iterable[Items]) -> None:
        for node in nodes:
            self._nodes[node.id] = node
            self._waiting[node.id] = 0
            self._unfinished += not node.status.is_terminal
        for node in nodes:
            for task_id, required in node.dependencies:
                self._wait(node, task_id, required)
            # What spawned the node, and the group that it is in, wait for it because it is part of them.
            spawner, parent = self._nodes.get(node.spawned_by or ""), self._nodes.get(node.parent_id or "")
            if spawner is not None and not spawner.is_live:
                self._wait(spawner, node.id, False)
            if parent is not None and parent.is_group and parent is not spawner:
                self._wait(parent, node.id, False)
        for items in maps:
            self._open_window(items)

    def _wait(self, node: Node, task_id: str, required: bool) -> None:
        if task_id in self._nodes:
            self._waiting[node.id] += 1
            self._dependants[task_id].append((node, required))

    def _open_window(self, items: Items) -> None:
        tasks = {task_id: self._nodes[task_id].status for item in items.items for task_id in item}
        ended = frozenset([task_id for task_id, status in tasks.items() if status.is_terminal])
        begun = frozenset([task_id for task_id, status in tasks.items() if status is not Status.PENDING])
        window = Window(items, ended=ended, begun=begun)
        for index, item in enumerate(items.items):
            for task_id in set(item) - ended:
                self._item_of[task_id] = window, index
                self._waiting[task_id] += 1
        for task_id in set(window.admit()) - ended:
            self._waiting[task_id] -= 1

    def _finish(self, node: Node, status: Status) -> None:
        node.status = status
        self._unfinished -= 1

    def _advance(self, settled: list[Node], ready: list[Node]) -> Step:
        """Update what waits for the settled nodes, and for a place in a map.

        A node that becomes blocked, or is skipped, is settled too, and appended to `settled`.
        """
        step = Step(ready=ready, blocked=[], skipped=[])
        for node in settled:
            for dependant, required in self._dependants.pop(node.id, ()):
                if dependant.status.is_terminal:
                    continue
                if required and node.status is Status.SKIPPED and node.id not in dependant.needless:
                    self._unwanted.setdefault(dependant.id, node.id)
                elif required and node.status not in (Status.COMPLETED, Status.SKIPPED):
                    self._finish(dependant, Status.FAILED)
                    step.blocked.append((dependant, node.id))
                    settled.append(dependant)
                    continue
                self._release(dependant, step=step, settled=settled)
            window, index = self._item_of.pop(node.id, (None, 0))
            admitted = () if window is None else window.settle(index)  # of the map, since this one is over
            for waiting in [self._nodes[task_id] for task_id in admitted]:
                if not waiting.status.is_terminal:
                    self._release(waiting, step=step, settled=settled)
        ready.sort(key=lambda node: (node.priority, node.position))
        return step

    def _release(self, node: Node, *, step: Step, settled: list[Node]) -> None:
        """Count down what the node waits for; after the last it is ready, or skipped."""
        self._waiting[node.id] -= 1
        if self._waiting[node.id]:
            return
        if (cause := self._unwanted.get(node.id)) is None:
            step.ready.append(node)
        else:
            self._finish(node, Status.SKIPPED)
            step.skipped.append((node, cause))
            settled.append(node)
