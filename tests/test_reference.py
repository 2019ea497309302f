"""The reference documents say what the code says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from a2a.core.errors import RULES, rule_of
from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.responses import Event, Task
from tasks.rules.field_rules import TASK_FIELDS
from tasks.rules.task_schedules import WRITTEN

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs/reference"


def rows(document: str) -> list[list[str]]:
    """The cells of all lines of tables, but for their heads."""
    lines = re.findall(r"^\| (.+) \|$", (REFERENCE / document).read_text(), re.MULTILINE)
    return [[cell.strip() for cell in re.split(r" \|", line)] for line in lines if re.match(r"`|-\d", line)]


def names(cells: list[str]) -> list[str]:
    return [cell.strip("`") for cell in cells]


def test_every_field_of_a_task_is_described() -> None:
    assert sorted(names([row[0] for row in rows("tasks.md")])) == sorted(Task.__struct_fields__)


def test_the_fields_that_a_client_sends_are_marked() -> None:
    sent = {row[0].strip("`") for row in rows("tasks.md") if row[1]}
    assert sent == {*TASK_FIELDS, *WRITTEN}


def test_every_field_and_every_type_of_an_event_is_described() -> None:
    types = get_args(get_type_hints(Event)["type"])
    described = names([row[0] for row in rows("events.md")])
    assert sorted(described) == sorted([*Event.__struct_fields__, *types])


def test_the_page_of_executors_says_what_they_declare() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts/executor_reference.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert checked.returncode == 0, checked.stderr
    assert [row[0] for row in rows("executors.md") if len(row) < 3 or not row[2]] == []


def test_the_schemas_of_files_are_those_of_the_methods() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts/file_schemas.py"), "--check"], capture_output=True, text=True, timeout=240
    )
    assert checked.returncode == 0, checked.stderr


def test_the_types_of_the_client_are_those_of_the_server() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts/client_types.py"), "--check"], capture_output=True, text=True, timeout=240
    )
    assert checked.returncode == 0, f"run `make reference` {checked.stderr}"


def test_every_error_is_described() -> None:
    described = [(int(row[0]), row[1], row[2].strip("`")) for row in rows("errors.md")]
    known = {
        (rule.code, f"{rule.http_status} *" if rule.on_transport else str(rule.http_status), rule.name)
        for rule in [*RULES.values(), rule_of(Exception())]
    }
    assert len(described) == len(set(described))
    assert set(described) == known


@pytest.mark.parametrize("row", rows("methods.md"), ids=lambda row: row[0])
def test_every_parameter_of_a_method_is_described(row: list[str]) -> None:
    fields = {**METHODS, **SYSTEM_METHODS}[row[0].strip("`")].params.__struct_fields__
    named = re.findall("`([a-z0-9_]+)`", row[1])
    assert row[1] == "the same" or set(fields) <= set(named)
