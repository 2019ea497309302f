"""The benchmark beside other systems: its tables and options. No test installs a system."""

import argparse
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from benchmarks.peers.__main__ import chosen
from benchmarks.peers.environments import ROOT, Environment
from benchmarks.peers.picture import picture, summary, tables_of
from benchmarks.peers.registry import SYSTEMS, System
from benchmarks.peers.table import cell, table_of_ratios, table_of_systems, table_of_the_machine

OURS = System(name="ours", title="ours", script="ours", power_cut="no")
PEER = System(
    name="peer", title="Peer {version}", script="peer", environment=Environment(name="peer", python=("peer==1.2",))
)


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ([2.345], "2.35"),
        ([3.0, 1.0, 2.0], "2.00 (1.00–3.00)"),
        ([12.34, 9.994], "11.2 (9.99–12.3)"),
        ([1234.5, 100.4, 99.96], "100 (100.0–1,234)"),
    ],
)
def test_a_cell_has_the_median_and_the_spread(figures: Sequence[float], shown: str) -> None:
    assert cell(figures) == shown


def test_the_table_has_a_line_for_each_system_with_its_version_and_what_it_survives() -> None:
    rounds = {OURS: [{"W1 p50 ms": 1.0}, {"W1 p50 ms": 2.0}], PEER: [{"W1 p50 ms": 30.0}, {"W1 p50 ms": 10.0}]}
    assert table_of_systems(rounds).splitlines() == [
        "| | process killed | power cut | W1 p50 ms |",
        "|---|---|---|---:|",
        "| ours | yes | no | 1.50 (1.00–2.00) |",
        "| Peer 1.2 | yes | yes | 20.0 (10.0–30.0) |",
    ]


def test_a_system_that_does_not_do_a_work_has_a_dash() -> None:
    assert table_of_systems({OURS: [{"W1 p50 ms": 1.0}], PEER: [{}]}).endswith("| Peer 1.2 | yes | yes | – |")


def test_ratios_are_of_the_same_round_and_above_one_for_what_is_faster() -> None:
    ours = [{"W1 p50 ms": 1.0, "W1 runs/s": 10.0}, {"W1 p50 ms": 8.0, "W1 runs/s": 40.0}]
    peer = [{"W1 p50 ms": 2.0, "W1 runs/s": 40.0}, {"W1 p50 ms": 4.0, "W1 runs/s": 40.0}]
    assert table_of_ratios({OURS: ours, PEER: peer}, base=PEER).splitlines()[2:] == [
        "| ours | 1.25 (0.50–2.00) | 0.62 (0.25–1.00) |",
        "| Peer 1.2 | 1.00 (1.00–1.00) | 1.00 (1.00–1.00) |",
    ]


def test_the_machine_has_a_line_for_each_figure() -> None:
    assert table_of_the_machine([{"fsyncs/s": 500.0}, {"fsyncs/s": 300.0}]).endswith("| fsyncs/s | 400 (300–500) |")


def test_systems_are_chosen_by_name_in_the_order_of_the_table() -> None:
    assert [system.name for system in chosen("restate,sqlite")] == ["sqlite", "restate"]


def test_an_unknown_name_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="unknown: nothing; known: sqlite, sqlite-full"):
        chosen("nothing,sqlite")


def test_every_system_has_a_name_of_its_own_a_script_and_pinned_packages() -> None:
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)
    for system in SYSTEMS:
        assert (ROOT / "benchmarks/peers/systems" / f"{system.script}.py").is_file()
        if system.environment:
            assert all("==" in package for package in system.environment.python)
            assert all(package.rfind("@") > 0 for package in system.environment.npm)


def test_the_version_shown_is_that_of_the_npm_package_if_there_is_one() -> None:
    assert Environment(name="peer", npm=("@peer/server@2.0",), python=("peer==1.2",)).version == "2.0"


def test_the_summary_of_the_page_has_the_medians_and_marks_the_best_that_lose_nothing() -> None:
    ours = [{"W1 p50 ms": 1.0, "W1 runs/s": 30.0}]
    peer = [{"W1 p50 ms": 2.0, "W1 runs/s": 40.0}]
    other = System(name="other", title="other", script="other")
    rounds = {OURS: ours, PEER: peer, other: [{"W1 p50 ms": 3.0}]}
    figures, ratios = tables_of(f"{table_of_systems(rounds)}\n\n{table_of_ratios(rounds, base=PEER)}\n")
    assert summary(figures).splitlines() == [
        "| | W1 p50 ms | W1 runs/s |",
        "|---|---:|---:|",
        "| ours * | 1.00 | 30.0 |",
        "| Peer 1.2 | **2.00** | **40.0** |",
        "| other | 3.00 | – |",
    ]
    drawn = ElementTree.fromstring(picture(ratios))
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in {"0.75", "2.00", "–"}] == ["2.00", "0.75", "–"]
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}rect"))) == 6
