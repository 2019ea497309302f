"""H1: hosts lose their power, one after the other, and come back."""

import random
import time
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.installation import WEB, WORKERS, Installation, installation
from tests.faults.kills import Kill
from tests.faults.load import judged, let_pass, loaded
from tests.faults.rows import Report, percentile, size
from tests.servers import until

KILLS = size("HOST_KILLS", 20)
RECOVERY_SECONDS = 20.0

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(KILLS * 90 + 600)]


def a_host_at_work(made: Installation, draw: random.Random) -> str:
    return until(
        lambda: draw.choice([name for name in WORKERS if made.held_by(name)] or [""]), seconds=60, what="a run in hand"
    )


def kill(made: Installation, name: str) -> Kill:
    runs = made.held_by(name)
    killed_at = time.time()
    made.network.hosts[name].kill()
    return Kill(role=name, killed_at=killed_at, gone_at=time.time(), runs=runs)


def test_hosts_are_killed(host_folder: Path, effects: Effects, report: Report) -> None:
    draw = random.Random(4)
    kills: list[Kill] = []
    with installation(host_folder) as made:
        with loaded(made, effects) as load:
            for number in range(KILLS):
                let_pass(5)
                name = draw.choice(WEB) if number % 2 else a_host_at_work(made, draw)
                kills.append(kill(made, name))
                let_pass(20)
                made.start(name)
        fault = "A host loses its power for 20 s: two web and two worker hosts in turn"
        sized = f"{KILLS} kills, {len(load.accepted)} trees"
        row = judged(made, load, effects, kills=kills, id="H1", fault=fault, size=sized)
        report(row)
        assert percentile(row.recovery, 0.99) <= RECOVERY_SECONDS
