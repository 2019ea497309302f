"""How many steps are taken in one turn of the event loop, and whose."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.worker.loop_turns import LoopTurns


@dataclass
class Steps:
    """A run that notes its name for each of its steps."""

    name: str
    user_id: str
    left: int
    taken: list[str]

    def take_step(self) -> bool:
        self.left -= 1
        self.taken.append(self.name)
        return self.left > 0


async def turns_of(*wanted: tuple[str, str, int], size: int) -> list[Sequence[str]]:
    """Whose steps were taken in each turn of the loop, when these runs of these users wanted so many in one."""
    turns, taken, by_turn = LoopTurns(size), list[str](), list[Sequence[str]]()
    for name, user_id, steps in wanted:
        turns.want(Steps(name, user_id, steps, taken))
    while taken:
        by_turn.append(tuple(taken))
        taken.clear()
        await asyncio.sleep(0)
    return by_turn


async def test_no_turn_of_the_loop_has_more_steps_than_its_size() -> None:
    assert [len(turn) for turn in await turns_of(("a", "alice", 1_000), size=20)] == [20] * 50


async def test_who_comes_after_a_thousand_steps_of_another_user_is_in_the_next_turn() -> None:
    turns = await turns_of(("a", "alice", 1_000), ("b", "bob", 2), size=20)
    assert [turn.count("b") for turn in turns[:3]] == [0, 2, 0]


async def test_the_runs_of_a_user_take_turns_and_together_no_more_than_another_user() -> None:
    turns = await turns_of(("a", "alice", 9), ("a2", "alice", 9), ("b", "bob", 9), size=4)
    assert {tuple(sorted(turn)) for turn in turns[1:4]} == {("a", "a2", "b", "b")}


async def test_a_step_alone_is_taken_at_once() -> None:
    taken = list[str]()
    LoopTurns().want(Steps("a", "alice", 1, taken))
    assert taken == ["a"]
