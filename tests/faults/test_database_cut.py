"""H4: the cable of the database is cut for 20 s."""

import time
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.installation import Installation, installation
from tests.faults.kills import Kill
from tests.faults.load import judged, let_pass, loaded
from tests.faults.rows import Report, percentile, size

CUTS = size("DATABASE_CUTS", 5)
CUT_SECONDS = 20.0
RECOVERY_SECONDS = 20.0

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(CUTS * 120 + 600)]


def mend(made: Installation) -> Kill:
    """The recovery of all that is unfinished counts from here."""
    runs = [run_id for (run_id,) in made.query("SELECT id FROM tasks_run WHERE finished_at IS NULL")]
    made.network.mend("db")
    return Kill(role="db", killed_at=time.time(), gone_at=time.time(), runs=runs)


def test_the_cable_of_the_database_is_cut(host_folder: Path, effects: Effects, report: Report) -> None:
    mends: list[Kill] = []
    with installation(host_folder) as made:
        with loaded(made, effects) as load:
            for _ in range(CUTS):
                let_pass(5)
                made.network.cut("db")
                let_pass(CUT_SECONDS)
                mends.append(mend(made))
                let_pass(15)
        fault = "The database's cable is cut for 20 s; recovery counts from its mending"
        sized = f"{CUTS} cuts, {len(load.accepted)} trees"
        row = judged(made, load, effects, kills=mends, id="H4", fault=fault, size=sized)
        report(row)
        assert percentile(row.recovery, 0.99) <= RECOVERY_SECONDS
        assert made.query("SELECT id FROM tasks_run WHERE losses > 0") == []
