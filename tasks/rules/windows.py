"""Windows: how many items of a map may be under way at once. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


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
