"""H2, H3: the cable of a worker host is cut, in both directions or in one of them, and mended."""

import time
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.hosts import Direction
from tests.faults.installation import WORKERS, Installation, installation
from tests.faults.kills import Kill
from tests.faults.load import judged, let_pass, loaded
from tests.faults.rows import Report, percentile, size

CUTS = size("HOST_CUTS", 6)
CUT_SECONDS = 40.0
"""Longer than a lease, and than the time in which another host takes over."""
IN_FLIGHT_SECONDS = 1.0
"""What is written so soon after a cut was on its way."""
RECOVERY_SECONDS = 20.0
WAYS: dict[str, tuple[str, tuple[Direction, ...]]] = {
    "H2": ("A worker host's cable is cut for 40 s", ("in", "out")),
    "H3a": ("A worker host hears nothing for 40 s, but can send", ("in",)),
    "H3b": ("A worker host's packets are lost for 40 s, but it can hear", ("out",)),
}

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(CUTS * 120 + 600)]


def cut(made: Installation, name: str, directions: tuple[Direction, ...]) -> Kill:
    runs = made.held_by(name)
    made.network.cut(name, *directions)
    cut_at = time.time()
    return Kill(role=name, killed_at=cut_at, gone_at=cut_at + IN_FLIGHT_SECONDS, runs=runs)


@pytest.mark.parametrize("row_id", WAYS)
def test_a_cable_is_cut(row_id: str, host_folder: Path, effects: Effects, report: Report) -> None:
    fault, directions = WAYS[row_id]
    cuts: list[Kill] = []
    with installation(host_folder) as made:
        with loaded(made, effects) as load:
            for number in range(CUTS):
                let_pass(5)
                name = WORKERS[number % 2]
                cuts.append(cut(made, name, directions))
                let_pass(CUT_SECONDS)
                made.network.mend(name)
                made.await_start(name)
        sized = f"{CUTS} cuts, {len(load.accepted)} trees"
        row = judged(made, load, effects, kills=cuts, id=row_id, fault=fault, size=sized)
        report(row)
        assert percentile(row.recovery, 0.99) <= RECOVERY_SECONDS
