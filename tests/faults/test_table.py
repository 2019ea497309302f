"""The table of the fault programme, on every push: the rest of this folder runs at night, and the programme with it."""

import json
from pathlib import Path

import pytest

from tests.faults import __main__ as faults
from tests.faults import rows, table
from tests.faults.followers import Pings, pong
from tests.faults.rows import Row, percentile, reporter, stored_rows


def test_a_row_is_stored_and_shown_with_the_command_that_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "FOLDER", tmp_path)
    monkeypatch.setenv("FAULTS_KILLS", "20")
    reporter("tests/faults/test_kills.py::test", "postgres")(
        Row(id="T1", fault="A kill", size="20 kills", lost=0, twice=0, again=1200, recovery=[3.0, 1.0, 2.0], note="n")
    )
    shown = table.table(stored_rows(tmp_path))
    assert "| T1 | A kill | postgres | 20 kills; n | 0 | 0 | 1,200 | 2.0 / 3.0 / 3.0 s |" in shown
    assert 'T1   TEST_ENGINE=postgres FAULTS_KILLS=20 make faults ARGS="tests/faults/test_kills.py::test"' in shown


def test_a_row_with_a_loss_is_stored_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FOLDER", tmp_path)
    with pytest.raises(AssertionError, match="2 trees lost"):
        reporter("test", "sqlite")(Row(id="T1", fault="A kill", size="1", lost=2))
    assert json.loads((tmp_path / "T1-sqlite.json").read_text())["lost"] == 2


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.01) == 7.0


def test_pings_are_found_among_frames_that_arrive_in_pieces() -> None:
    pings = Pings()
    stream = b"HTTP/1.1 101 \r\n\r\n" + b"\x81\x7e\x01\x00" + b"x" * 256 + b"\x89\x04ping" + b"\x81\x01y"
    assert [payload for at in range(len(stream)) for payload in pings.payloads(stream[at : at + 1])] == [b"ping"]
    assert pong(b"ping") == b"\x8a\x84\0\0\0\0ping"


@pytest.mark.nightly
def test_the_programme_goes_on_after_its_first_test(tmp_path: Path) -> None:
    module = tmp_path / "test_two.py"
    module.write_text(
        "import pytest\n\n@pytest.mark.nightly\n@pytest.mark.parametrize('number', [1, 2])\n"
        f"def test_both(number):\n    open({str(tmp_path)!r} + f'/{{number}}', 'w').close()\n"
    )
    assert faults.run("sqlite", [str(module)]) == 0
    assert (tmp_path / "1").exists() and (tmp_path / "2").exists()
