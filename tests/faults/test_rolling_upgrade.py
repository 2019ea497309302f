"""T28: hosts are upgraded one after the other under load; for two minutes two versions are at work."""

from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.installation import installation
from tests.faults.load import judged, let_pass, loaded
from tests.faults.previous import before_the_newest_migration, checked_out
from tests.faults.rows import Report, size
from tests.servers import ROOT

BOTH_SECONDS = size("TWO_VERSIONS_SECONDS", 120)
DRAIN = {"AIPARTNERUPFLOW_SERVER_DRAIN_SECONDS": "1"}

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(BOTH_SECONDS * 2 + 600)]


def test_hosts_are_upgraded_under_load(host_folder: Path, effects: Effects, report: Report) -> None:
    commit = before_the_newest_migration()
    previous = checked_out(commit, host_folder)
    with installation(host_folder, source=previous, env=DRAIN) as made:
        with loaded(made, effects) as load:
            let_pass(5)
            for name in ("web1", "worker1", "web2", "worker2"):
                made.network.hosts[name].stop()
                made.start(name, source=ROOT)
                let_pass(BOTH_SECONDS if name == "worker1" else 5)
        fault = "Four hosts are upgraded one after the other; between them, both versions work"
        sized = f"{BOTH_SECONDS} s with two versions, {len(load.accepted)} trees"
        row = judged(made, load, effects, id="T28", fault=fault, size=sized, note=f"from {commit[:7]}")
        report(row)
        assert row.again == 0
        assert set(made.answers) == {"200"}
