"""Replay, by property: a crash after any commit changes neither the calls nor the result, and no call that ended is performed again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aipartnerupflow.workflows.drive import ROOT, Call, Command, Drive, End, Record
from aipartnerupflow.workflows.local import performed
from aipartnerupflow.workflows.testing import play
from tests.aipartnerupflow.workflows.programs import evaluated, interpret, programs, without_values

START = datetime(2030, 1, 1, tzinfo=UTC)
MOST_MOVES = 5_000
ORDERS = st.integers(0, 2**32)


@given(programs(), ORDERS)
async def test_a_crash_after_any_commit_changes_nothing(program: list[Any], order: int) -> None:
    whole = await play(interpret(program), shuffle=order)
    assert len(set(whole.performed)) == len(whole.performed)
    for number in range(1, whole.commits + 1):
        played = await play(interpret(program), shuffle=order, crash_at=number)
        assert (played.result, played.calls) == (whole.result, whole.calls), number
        assert (played.performed, played.commits) == (whole.performed, whole.commits), number
    assert (await play(interpret(program), shuffle=order, crash_at=range(10_000))).result == whole.result


@given(programs(races=False), ORDERS)
async def test_without_races_the_order_of_ends_does_not_matter(program: list[Any], order: int) -> None:
    played = await play(interpret(program), shuffle=order, crash_at={order % 7, order % 11})
    assert without_values(program, played.result) == evaluated(program)


@given(programs(children=False), ORDERS, st.booleans())
async def test_ends_in_any_order_with_crashes_in_between_lead_to_an_end(
    program: list[Any], seed: int, is_cancelled: bool
) -> None:
    """Calls end while earlier ends are not delivered yet; what is not delivered when the process dies comes in the order of the ends."""
    world = World(program, Random(seed), is_cancelled=is_cancelled)
    for _ in range(MOST_MOVES):
        if world.drive.outcome is not None:
            break
        await world.move()
    assert world.drive.outcome is not None, "it waits for an end that it has had"
    status = world.drive.outcome.status
    assert status == "completed" or (is_cancelled and status == "cancelled"), world.drive.outcome
    assert len(set(world.performed)) == len(world.performed)


class World:
    """A journal, and a drive that dies now and then. Commits and deliveries are events of their own, as on a server."""

    def __init__(self, program: list[Any], random: Random, *, is_cancelled: bool) -> None:
        self.program, self.random = program, random
        self.records: dict[str, Record] = {}
        self.undelivered: list[str] = []
        self.performed: list[str] = []
        self.clock = START
        self.lives = 0
        self.drive: Drive
        self.moves_until_cancelled = random.randint(0, 9) if is_cancelled else -1
        self.crash()

    def crash(self) -> None:
        if self.lives:
            self.drive.close()
        self.lives += 1
        self.unstored: list[Command] = []
        history = [
            Record(call=each.call, hash=each.hash, end=each.end, cancel=each.cancel) for each in self.records.values()
        ]
        self.drive = interpret.drive({"program": self.program}, seed="s", at=START, history=history)
        self.undelivered.clear()
        self.take(self.drive.begin())
        if self.moves_until_cancelled == 0 and self.drive.outcome is None:
            self.take(self.drive.deliver(ROOT, End(status="cancelled", at=self.clock)))

    def take(self, commands: Sequence[Command]) -> None:
        self.unstored += commands

    async def move(self) -> None:
        self.clock += timedelta(seconds=1)
        self.moves_until_cancelled -= self.moves_until_cancelled > 0
        if self.moves_until_cancelled == 0:
            self.take(self.drive.deliver(ROOT, End(status="cancelled", at=self.clock)))
        open_paths = [path for path, record in self.records.items() if record.end is None]
        choice = self.random.random()
        if choice < 0.1 and self.lives < 20:
            self.crash()
        elif self.unstored and choice < 0.5:
            self.store(self.unstored.pop(0))
        elif self.undelivered and choice < 0.8:
            path = self.undelivered.pop(self.random.randrange(len(self.undelivered)))
            end = self.records[path].end
            assert end is not None
            self.take(self.drive.deliver(path, end))
        elif open_paths:
            await self.perform(self.random.choice(open_paths))

    def store(self, command: Command) -> None:
        if isinstance(command, Call):
            assert command.path not in self.records
            self.records[command.path] = Record(call=command, hash=command.hash)
        elif (record := self.records[command.path]).end is None:
            record.end, record.cancel = End(status="cancelled", at=self.clock), command

    async def perform(self, path: str) -> None:
        record = self.records[path]
        self.performed.append(path)
        is_step = record.call.kind == "step"
        record.end = (
            await performed(record.call, at=self.clock, secrets={})
            if is_step
            else End(status="completed", at=self.clock)
        )
        self.undelivered.append(path)
