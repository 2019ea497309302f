"""How many tasks begin in one turn of the event loop, and whose."""

import asyncio
from collections.abc import Sequence

import pytest

from tasks.worker.loop_turns import LoopTurns


async def turns_of(waiting: Sequence[str], *, size: int) -> list[list[str]]:
    """Whose tasks began in each turn of the loop, when those of these users came in one."""
    turns = LoopTurns(size)
    begun: list[list[str]] = [[]]
    is_over = asyncio.Event()

    async def begin(user_id: str) -> None:
        await turns.take(user_id)
        begun[-1].append(user_id)
        if sum(map(len, begun)) == len(waiting):
            is_over.set()

    def next_turn() -> None:
        begun.append([])
        asyncio.get_running_loop().call_soon(next_turn)

    tasks = [asyncio.create_task(begin(user_id)) for user_id in waiting]
    asyncio.get_running_loop().call_soon(next_turn)
    await is_over.wait()
    await asyncio.gather(*tasks)
    return [each for each in begun if each]


async def test_no_turn_of_the_loop_has_more_than_its_size() -> None:
    assert [len(turn) for turn in await turns_of(["alice"] * 1_000, size=20)] == [20] * 50


async def test_who_comes_after_a_thousand_of_another_user_is_in_the_next_turn() -> None:
    turns = await turns_of([*["alice"] * 1_000, "bob", "bob"], size=20)
    assert [turn.count("bob") for turn in turns[:3]] == [0, 2, 0]


async def test_a_task_alone_begins_at_once() -> None:
    with pytest.raises(StopIteration):
        LoopTurns().take("alice").send(None)


async def test_those_who_gave_up_take_no_turn() -> None:
    turns = LoopTurns(1)
    await turns.take("alice")
    waiting = [asyncio.create_task(turns.take("alice")) for _ in range(100)]
    await asyncio.sleep(0)
    for task in waiting[1:-1]:
        task.cancel()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends[1:-1]] == [asyncio.CancelledError] * 98
    assert ends[0] is ends[-1] is None
