"""Shares: how much of a worker process one user may hold.

Turns (`tasks.queue.fairness`) decide who is next. That alone is not enough: work that takes hours could
hold every place before another user comes. So some places are left for others.
"""

from collections import Counter
from collections.abc import Callable
from copy import copy
from typing import Final

from django.conf import settings

from tasks.pools.fair_semaphore import Shares

QUARANTINES: Final = 4
"""There are up to so many times `worker.quarantine`, if those that there are let no other suspect in."""


def most_quarantines() -> int:
    """Return how many quarantines there may be at once on this host."""
    return QUARANTINES * int(settings.APFLOW.worker.quarantine)


def convicts_per_user() -> Callable[[str], int]:
    """Return how many quarantines on this host a user may hold with runs that stay alone in theirs."""
    return Shares(most_quarantines()).of


class Places:
    """The places for trees in this process, and who holds them."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._shares = Shares(size)
        self._held: Counter[str] = Counter()

    def take(self, user_id: str) -> None:
        self._free -= 1
        self._held[user_id] += 1

    def give_back(self, user_id: str) -> bool:
        """Return whether a user may take a place now who could not before."""
        is_news = self._free == 0 or self._held[user_id] >= self._shares.of(user_id)
        is_news |= user_id in self._shares.own  # a claim that is under way may have been given less room
        self._free += 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]
        return is_news

    @property
    def free(self) -> int:
        return self._free

    @property
    def users(self) -> int:
        """The number of users who hold places."""
        return len(self._held)

    @property
    def claimable(self) -> int:
        """The number of runs that may be claimed at once without any user exceeding the share: see `rooms` for own shares."""
        own, usual = self._shares.own, self._shares.usual
        most_held = max(
            (held for user_id, held in self._held.items() if held < usual and user_id not in own), default=0
        )
        return min(self._free, usual - most_held)

    @property
    def rooms(self) -> dict[str, int]:
        """The number of runs that may still be claimed of each user who has some here, or a share of their own."""
        users = {*self._held, *self._shares.own}
        return {user_id: self._shares.of(user_id) - self._held[user_id] for user_id in users}


class TreeMemory:
    """The memory of the trees in this process (`worker.tree_bytes`), and whose they are.

    A tree is taken while there is room, and may exceed it: so each tree runs somewhere.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._shares = Shares(size)
        self._held: Counter[str] = Counter()

    def copy(self) -> "TreeMemory":
        """Return a copy on which another thread can plan."""
        other = copy(self)
        other._held = self._held.copy()
        return other

    def has_room(self, user_id: str) -> bool:
        return not self.is_full and self._held[user_id] < self._shares.of(user_id)

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
        return [user_id for user_id, held in self._held.items() if held >= self._shares.of(user_id)]
