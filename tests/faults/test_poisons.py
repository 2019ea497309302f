"""T20: four tasks that kill or block their worker, and beside each of them the trees of others."""

import pytest

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_sound, await_rest, begun_again, completed_twice, lost
from tests.faults.rows import Report, Row, size
from tests.servers import real_server, until

NEIGHBOURS = size("NEIGHBOURS", 100)
STEPS = 6
POISONS = ("die", "crash", "loop", "hold the lock of the interpreter")
STALL = {"AIPARTNERUPFLOW_WORKER_STALL_SECONDS": "5"}

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(1200)]


def test_neighbours_of_four_poisons(database: str, effects: Effects, report: Report) -> None:
    accepted = [f"tree{number}" for number in range(NEIGHBOURS)]
    with real_server(database, env=STALL) as server:
        for name in accepted:
            server.rpc("tasks.execute", {"tasks": effects.chain(name, STEPS, seconds=1.0)})
        until(lambda: len(effects.counts("start")) >= min(NEIGHBOURS, 50), seconds=120, what="neighbours at work")
        for how in POISONS:
            poison = effects.step(how)
            poison["inputs"]["then"] = how
            server.rpc("tasks.execute", {"tasks": [poison]})
        await_rest(server)
        begun = effects.counts("start")
        again = begun_again(effects) - sum(begun[how] - 1 for how in POISONS)
        report(
            Row(
                id="T20",
                fault="Four tasks that exit, crash, loop, and hold the interpreter's lock",
                size=f"{NEIGHBOURS} trees of {STEPS} steps beside them",
                lost=lost(server, accepted),
                twice=completed_twice(server),
                again=again,
                note=", ".join(f"{how}: begun {begun[how]} times" for how in POISONS),
            )
        )
        assert_sound(server)
        assert max(count for step, count in begun.items() if step not in POISONS) <= 1 + len(POISONS)
