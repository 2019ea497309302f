"""Looks up rows by id together: one query for all the lookups that wait while the one before it runs.

A query costs the database little, but a turn of a thread, and on PostgreSQL a journey. Many lookups at once share them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from apflow_site.db import pools

MOST_TOGETHER: Final = 64
"""Of how many ids a query asks at most."""
Group = TypeVar("Group", bound=Hashable)
Row = TypeVar("Row")


class Lookups(Generic[Group, Row]):
    """Lookups of one kind, for one event loop. Those of a group go together: of one user, for whom a query asks.

    `find` is a sync function that reads: it returns the rows of a group by the ids that exist, of at most MOST_TOGETHER.
    It runs in the context of one of the lookups, so it must not use what belongs to a request.
    """

    def __init__(self, find: Callable[[Group, Sequence[str]], Mapping[str, Row]]) -> None:
        self._find = find
        self._waiting: defaultdict[Group, list[tuple[str, asyncio.Future[Row | None]]]] = defaultdict(list)
        self._asking: dict[Group, asyncio.Task[None]] = {}

    def row(self, group: Group, row_id: str) -> "asyncio.Future[Row | None]":
        """The row, or None; as `find` finds it after this call. Raises what `find` raises."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Row | None] = loop.create_future()
        self._waiting[group].append((row_id, found))
        if group not in self._asking:
            self._asking[group] = loop.create_task(self._ask_for_all(group))
        return found

    async def _ask_for_all(self, group: Group) -> None:
        try:
            while waiting := self._waiting[group]:
                asked, self._waiting[group] = waiting[:MOST_TOGETHER], waiting[MOST_TOGETHER:]
                await self._ask(group, asked)
        finally:
            del self._waiting[group], self._asking[group]

    async def _ask(self, group: Group, asked: "Sequence[tuple[str, asyncio.Future[Row | None]]]") -> None:
        open_ = {row_id for row_id, found in asked if not found.done()}
        try:
            rows = await pools.read(self._find, group, sorted(open_)) if open_ else {}
        except Exception as error:  # noqa: BLE001  it belongs to those who asked
            for _, found in asked:
                if not found.done():
                    found.set_exception(error)
            return
        for row_id, found in asked:
            if not found.done():
                found.set_result(rows.get(row_id))
