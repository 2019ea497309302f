"""T13: a clock jumps by an hour forward, back, and by five seconds, while trees run.

On PostgreSQL it is that of one of two worker hosts; on SQLite that of the only machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.clocks import set_clock, shifted
from tests.faults.judge import assert_sound, await_rest, begun_again, completed_twice, lost
from tests.faults.load import let_pass
from tests.faults.rows import Report, Row, size
from tests.ports import free_port
from tests.servers import COMMAND, SAME_KEYS, Server, real_server, running

ROUNDS = size("CLOCK_ROUNDS", 10)
SHIFTS = ("+3600", "+0", "-3600", "+0", "-5", "+0")
PAUSE_SECONDS = 3.0
NEGATIVE = (
    "SELECT id FROM tasks_run WHERE finished_at < started_at UNION ALL "
    "SELECT id FROM tasks_task WHERE completed_at < started_at"
)

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(ROUNDS * 60 + 600)]


@contextmanager
def with_a_moving_clock(database: str, clock: Path) -> Iterator[Server]:
    moving = shifted(clock) | SAME_KEYS
    if database.startswith("sqlite"):
        with real_server(database, env=moving) as server:
            yield server
        return
    port = free_port()
    with (
        real_server(database, port=port, env=SAME_KEYS) as server,
        running([*COMMAND, "worker"], port=port, database_url=database, env=moving, is_forked=False),
    ):
        yield server


def test_a_clock_that_jumps(database: str, effects: Effects, tmp_path: Path, report: Report) -> None:
    clock = tmp_path / "clock"
    set_clock(clock, "+0")
    accepted: list[str] = []
    with with_a_moving_clock(database, clock) as server:
        for number in range(ROUNDS * len(SHIFTS)):
            for _ in range(4):
                name = f"tree{len(accepted)}"
                server.rpc("tasks.execute", {"tasks": effects.chain(name, 6, seconds=0.5)})
                accepted.append(name)
            set_clock(clock, SHIFTS[number % len(SHIFTS)])
            let_pass(PAUSE_SECONDS)
        await_rest(server)
        again, negative = begun_again(effects), server.query(NEGATIVE)
        report(
            Row(
                id="T13",
                fault="A clock jumps by +1 h, -1 h and -5 s, and back",
                size=f"{ROUNDS * len(SHIFTS)} jumps, {len(accepted)} trees",
                lost=lost(server, accepted),
                twice=completed_twice(server),
                again=again,
                note=f"{len(negative)} negative durations",
            )
        )
        assert_sound(server)
        assert again == 0, "A lease was taken early"
        assert negative == []
