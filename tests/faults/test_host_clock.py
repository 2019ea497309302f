"""H6: the clock of a worker host, and then that of a web host, is 10 s ahead or behind."""

from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.clocks import set_clock, shifted
from tests.faults.installation import installation
from tests.faults.load import judged, let_pass, loaded
from tests.faults.rows import Report, size

SECONDS = size("CLOCK_SECONDS", 120)
SHIFTS = {"worker1": "+10", "worker2": "-10", "web1": "+10", "web2": "-10"}

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(SECONDS * 2 + 600)]


def test_clocks_that_disagree(host_folder: Path, effects: Effects, report: Report) -> None:
    with installation(host_folder) as made:
        for name, shift in SHIFTS.items():
            clock = host_folder / f"{name}.clock"
            set_clock(clock, shift)
            made.network.hosts[name].stop()
            made.start(name, env=shifted(clock))
        with loaded(made, effects) as load:
            let_pass(SECONDS)
        fault = "The clocks of the web and of the worker hosts are 20 s apart"
        sized = f"{SECONDS} s, {len(load.accepted)} trees"
        row = judged(made, load, effects, id="H6", fault=fault, size=sized)
        report(row)
        assert row.again == 0, "A lease was taken early"
        assert made.query("SELECT id FROM tasks_run WHERE losses > 0 OR finished_at < started_at") == []
