"""Who goes first in a worker process that has more to do than it may do at once."""

import asyncio
from collections.abc import Sequence

from tasks.pools.fair_semaphore import FairSemaphore


async def order_of(waiting: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The order in which (user, priority) that came in this order get the one slot."""
    slots, served = FairSemaphore(1), []

    async def work(user_id: str, priority: int) -> None:
        async with slots.take(user_id, priority):
            served.append((user_id, priority))

    async with asyncio.TaskGroup() as group, slots.take("nobody", 0):
        for user_id, priority in waiting:
            group.create_task(work(user_id, priority))
            await asyncio.sleep(0)
    return served


async def test_of_one_users_tasks_the_urgent_go_first_then_those_that_came_first() -> None:
    slots = [("alice", 2), ("alice", 3), ("alice", 0), ("alice", 2), ("alice", 1)]
    assert await order_of(slots) == [("alice", 0), ("alice", 1), ("alice", 2), ("alice", 2), ("alice", 3)]


async def test_users_take_turns_and_no_priority_puts_one_of_them_before_another() -> None:
    waiting = [("alice", 0)] * 4 + [("bob", 3), ("bob", 2), ("carol", 3)]
    assert [user_id for user_id, _ in await order_of(waiting)] == [
        "alice", "bob", "carol", "alice", "bob", "alice", "alice",
    ]  # fmt: skip


async def test_who_leaves_the_row_takes_no_turn_and_no_slot() -> None:
    slots, served = FairSemaphore(1), []

    async def work(user_id: str) -> None:
        async with slots.take(user_id, 2):
            served.append(user_id)

    async with slots.take("nobody", 0):
        waiting = [asyncio.create_task(work(user_id)) for user_id in ["alice", "alice", "bob", "carol"]]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert served == ["alice", "carol"]
    async with asyncio.timeout(60), slots.take("dave", 2):
        pass


async def test_no_user_holds_more_than_the_share() -> None:
    assert await held_at_once(FairSemaphore(3, share=lambda _: 2)) == ["alice", "alice", "bob"]


async def test_a_user_may_hold_more_or_less_than_others() -> None:
    shares = {"alice": 1, "bob": 5}
    assert await held_at_once(FairSemaphore(4, share=shares.__getitem__)) == ["alice", "bob", "bob"]
    assert await held_at_once(FairSemaphore(2, share=shares.__getitem__)) == ["alice", "bob"]


async def held_at_once(slots: FairSemaphore) -> list[str]:
    """Who holds a slot when Alice has asked for four and Bob for two; then all end."""
    may_end, held = asyncio.Event(), []

    async def work(user_id: str) -> None:
        async with slots.take(user_id, 2):
            held.append(user_id)
            await may_end.wait()

    alice = [asyncio.create_task(work("alice")) for _ in range(4)]
    await asyncio.sleep(0)
    bob = [asyncio.create_task(work("bob")) for _ in range(2)]
    await asyncio.sleep(0)
    at_once = held.copy()
    may_end.set()
    await asyncio.gather(*alice, *bob)
    assert sorted(held) == ["alice"] * 4 + ["bob"] * 2
    return at_once
