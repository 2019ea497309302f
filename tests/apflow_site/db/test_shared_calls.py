"""SharedCalls by id: those that wait share a query, and each gets what it would have got alone."""

import asyncio
from collections.abc import Mapping, Sequence
from threading import Event

import pytest

from apflow_site.db.pools import MOST_TOGETHER, SharedCalls

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_SECONDS = 60


class Table:
    """Rows that are found by `find` of a `SharedCalls`, whose first query waits until it is let go."""

    def __init__(self) -> None:
        self.rows = {str(number): f"row {number}" for number in range(200)}
        self.asked: list[tuple[str, list[str]]] = []
        self.has_begun, self.may_end = Event(), Event()

    def find(self, group: str, row_ids: Sequence[str]) -> Mapping[str, str]:
        self.asked.append((group, list(row_ids)))
        found = {row_id: self.rows[row_id] for row_id in row_ids if row_id in self.rows}
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE_SECONDS)
        return found

    async def begun(self) -> None:
        assert await asyncio.to_thread(self.has_begun.wait, PATIENCE_SECONDS)


async def test_those_that_wait_share_a_query_and_each_gets_its_row() -> None:
    table = Table()
    calls = SharedCalls(table.find)
    first = calls.result("ada", "0")
    await table.begun()
    others = [calls.result("ada", row_id) for row_id in ("1", "2", "nothing", "2")]
    table.may_end.set()
    assert await asyncio.gather(first, *others) == ["row 0", "row 1", "row 2", None, "row 2"]
    assert table.asked == [("ada", ["0"]), ("ada", ["1", "2", "nothing"])]


async def test_a_row_is_as_it_is_after_the_question() -> None:
    table = Table()
    calls = SharedCalls(table.find)
    before = calls.result("ada", "0")
    await table.begun()
    table.rows["0"] = "changed"
    after = calls.result("ada", "0")
    table.may_end.set()
    assert [await before, await after] == ["row 0", "changed"]


async def test_each_user_has_queries_of_their_own() -> None:
    table = Table()
    table.may_end.set()
    calls = SharedCalls(table.find)
    await asyncio.gather(calls.result("ada", "0"), calls.result("bob", "1"), calls.result("ada", "2"))
    assert sorted(table.asked) == [("ada", ["0", "2"]), ("bob", ["1"])]


async def test_a_query_asks_for_a_limited_number() -> None:
    table = Table()
    table.may_end.set()
    calls = SharedCalls(table.find)
    count = MOST_TOGETHER + 10
    found = await asyncio.gather(*(calls.result("ada", str(number)) for number in range(count)))
    assert found == [f"row {number}" for number in range(count)]
    assert [len(row_ids) for _, row_ids in table.asked] == [MOST_TOGETHER, 10]


async def test_an_error_reaches_all_who_asked_and_no_later_call() -> None:
    fails = True

    def find(group: str, row_ids: Sequence[str]) -> Mapping[str, str]:
        if fails:
            raise ValueError(group)
        return dict.fromkeys(row_ids, "found")

    calls = SharedCalls(find)
    answers = await asyncio.gather(calls.result("ada", "0"), calls.result("ada", "1"), return_exceptions=True)
    assert list(map(repr, answers)) == ["ValueError('ada')"] * 2
    fails = False
    assert await calls.result("ada", "0") == "found"


async def test_a_cancelled_call_is_not_asked_for_and_stops_no_other() -> None:
    table = Table()
    calls = SharedCalls(table.find)
    first = calls.result("ada", "0")
    await table.begun()
    leaves, stays = calls.result("ada", "1"), calls.result("ada", "2")
    leaves.cancel()
    table.may_end.set()
    assert [await first, await stays] == ["row 0", "row 2"]
    assert table.asked == [("ada", ["0"]), ("ada", ["2"])]
