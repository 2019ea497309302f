"""H5: a worker host and a web host behind a slow and lossy link."""

from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.installation import installation
from tests.faults.load import judged, let_pass, loaded
from tests.faults.rows import Report, size

SECONDS = size("SLOW_LINK_SECONDS", 300)
DELAY_SECONDS = 0.1
JITTER_SECONDS = 0.03
LOSS = 0.02

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(SECONDS * 2 + 600)]


def test_a_slow_and_lossy_link(host_folder: Path, effects: Effects, report: Report) -> None:
    with installation(host_folder) as made:
        for name in ("worker1", "web1"):
            for direction in ("in", "out"):
                made.network.set(name, direction, loss=LOSS, delay=DELAY_SECONDS, jitter=JITTER_SECONDS)
        with loaded(made, effects) as load:
            let_pass(SECONDS)
        fault = "A web and a worker host lose 2 % of the packets and delay the others by 100 ± 30 ms each way"
        sized = f"{SECONDS} s, {len(load.accepted)} trees"
        report(judged(made, load, effects, id="H5", fault=fault, size=sized))
        assert made.query("SELECT id FROM tasks_run WHERE losses > 0") == []
