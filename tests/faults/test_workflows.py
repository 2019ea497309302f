"""T3: workers are killed while workflows run, whose effects are counted where they happen."""

from pathlib import Path

import pytest

from tests.acceptance.test_killed_workflows import run_with_kills, server_with
from tests.faults.judge import assert_sound
from tests.faults.rows import Report, Row, size

KILLS = size("WORKFLOW_KILLS", 50)
WORKFLOWS = 4

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.faults,
    pytest.mark.both_engines,
    pytest.mark.timeout(KILLS * 30 + 600),
]


def test_workflows_go_on_after_kills(database: str, tmp_path: Path, report: Report) -> None:
    sink = tmp_path / "sink"
    with server_with(sink, database) as server:
        verdict = run_with_kills(server, sink, kills=KILLS, workflows=WORKFLOWS)
        report(
            Row(
                id="T3",
                fault="All workers are killed while workflows gather, loop, race, ask, sleep, wait for events, clean up and begin parts",
                size=f"{KILLS} kills, {KILLS * WORKFLOWS} workflows of {verdict.steps:,} steps; {verdict.interrupted} steps interrupted "
                f"after they had begun; steps that came twice {verdict.twice}, steps lost {verdict.lost}, other results "
                f"{verdict.other_results}",
                lost=verdict.lost,
                twice=verdict.twice,
            )
        )
        assert_sound(server)
    assert verdict.other_results == 0
