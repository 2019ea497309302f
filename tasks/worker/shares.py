"""Shares: how much of a worker process one user may hold.

Turns (`tasks.queue.fairness`) decide who is next. That alone is not enough: work that takes hours could
hold every place before another user comes. So some places are left for others.
"""

from collections import Counter
from typing import Final

from django.conf import settings

QUARANTINES: Final = 4
"""There are up to so many times `worker.quarantine`, if those that there are let no other suspect in."""


def share_of(size: int) -> int:
    """Return how many of so many places one user may hold: all of them without authentication."""
    if not settings.APFLOW.auth.is_on:
        return size
    return max(1, size * settings.APFLOW.worker.user_share // 100)


def most_quarantines() -> int:
    """Return how many quarantines there may be at once on this host."""
    return QUARANTINES * int(settings.APFLOW.worker.quarantine)


def convicts_per_user() -> int:
    """Return how many quarantines on this host one user may hold with runs that stay alone in theirs."""
    return share_of(most_quarantines())


class Places:
    """The places for trees in this process, and who holds them."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._share = share_of(size)
        self._held: Counter[str] = Counter()

    def take(self, user_id: str) -> None:
        self._free -= 1
        self._held[user_id] += 1

    def give_back(self, user_id: str) -> bool:
        """Return whether a user may take a place now who could not before."""
        is_news = self._free == 0 or self._held[user_id] >= self._share
        self._free += 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]
        return is_news

    @property
    def free(self) -> int:
        return self._free

    @property
    def claimable(self) -> int:
        """The number of runs that may be claimed at once without any user exceeding the share."""
        most_held = max((held for held in self._held.values() if held < self._share), default=0)
        return min(self._free, self._share - most_held)

    @property
    def full_users(self) -> list[str]:
        """The users that hold their share."""
        return [user_id for user_id, held in self._held.items() if held >= self._share]


class TreeMemory:
    """The memory of the trees in this process (`worker.tree_bytes`), and whose they are.

    A tree is taken while there is room, and may exceed it: so each tree runs somewhere.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._share = share_of(size)
        self._held: Counter[str] = Counter()

    def copy(self) -> "TreeMemory":
        """Return a copy on which another thread can plan."""
        other = TreeMemory(self._size)
        other._held = self._held.copy()
        return other

    def has_room(self, user_id: str) -> bool:
        return not self.is_full and self._held[user_id] < self._share

    def take(self, user_id: str, size: int) -> None:
        self._held[user_id] += size

    def give_back(self, user_id: str, size: int) -> bool:
        """Return whether a tree may be taken now that could not before."""
        is_news = not self.has_room(user_id)
        self._held[user_id] -= size
        if self._held[user_id] <= 0:
            del self._held[user_id]
        return is_news

    @property
    def is_full(self) -> bool:
        return self._held.total() >= self._size

    @property
    def full_users(self) -> list[str]:
        """The users that hold their share."""
        return [user_id for user_id, held in self._held.items() if held >= self._share]
