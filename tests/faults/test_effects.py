"""T2: workers are killed during calls of functions, tools of agents and requests, whose effects are counted where they happen."""

from pathlib import Path

import pytest

from tests.acceptance.test_killed_calls import KINDS, opened_sink, run_with_kills, server_with
from tests.faults.judge import assert_sound
from tests.faults.rows import Report, Row, size

KILLS = size("EFFECT_KILLS", 100)
TREES = 4

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.faults,
    pytest.mark.both_engines,
    pytest.mark.timeout(KILLS * 30 + 600),
]


def test_effects_are_neither_repeated_nor_lost(database: str, tmp_path: Path, report: Report) -> None:
    with opened_sink(tmp_path) as sink, server_with(sink, database) as server:
        verdict = run_with_kills(server, sink, kills=KILLS, trees=TREES)
        report(
            Row(
                id="T2",
                fault="All workers are killed during calls of functions, tools of agents and requests",
                size=f"{KILLS} kills, {KILLS * TREES * len(KINDS)} trees; {verdict.interrupted} calls interrupted after they had "
                f"begun; effects that came twice {verdict.twice}, effects lost that had not begun {verdict.lost}, agents that are "
                f"green without an answer {verdict.green_without_answer}",
                lost=verdict.lost,
                twice=verdict.twice,
            )
        )
        assert_sound(server)
    assert verdict.green_without_answer == 0
