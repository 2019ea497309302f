"""What a reader has to open, and what a request passes, stays bounded."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "weight.py"
WALK = ROOT / "docs/contributing/one-task.md"


def test_the_code_is_no_heavier_than_its_limits() -> None:
    command = [sys.executable, str(SCRIPT), "--modules"]
    weighed = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert weighed.returncode == 0, weighed.stdout + weighed.stderr
    assert "modules passed by tasks.get" in weighed.stdout
    stations = re.findall(r"^\| \d+ \|.*$", WALK.read_text(), re.MULTILINE)
    named = [name for station in stations for name in re.findall(r"`([a-z0-9_/]+\.py)`", station)]
    assert len(stations) == 12
    assert [name for name in named if f"  {name}\n" not in weighed.stdout] == [], "a task does not pass these"


FIELDS = frozenset({"id", "name", "status", "inputs", "params", "schemas", "error", "result"})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (
            "class Row:\n    id: str\n    name: str\n    status: str\n    inputs: str\n    params: str\n    error: str\n    result: str",
            7,
        ),
        ("Row(id=1, name=2, status=3, inputs=4, params=5, error=6, result=7)", 7),
        ("{'id': 1, 'name': 2, 'status': 3, 'inputs': 4, 'params': 5, 'error': 6, 'result': 7}", 7),
        ("('id', 'name', 'status', 'inputs', 'params', 'error', 'result')", 7),
        ("'SELECT id, name, status, inputs, params, error, result FROM tasks_task'", 7),
        (
            "def copy(row):\n    row.id = row.name = row.status = 1\n    row.inputs = row.params = row.error = row.result = 2",
            7,
        ),
        ("[row['id'], row['name'], row['status'], row['inputs'], row['params'], row['error'], row['result']]", 0),
        ("'The id, the name and the status of a task, its inputs, params and schemas, and its error or result'", 0),
        ("('id', 'name', 'status', 'inputs', 'params', 'schemas')", 0),
    ],
)
def test_lists_of_fields_count_and_uses_of_fields_do_not(text: str, count: int) -> None:
    assert runpy.run_path(str(SCRIPT))["fields_listed"](ast.parse(text), FIELDS) == count
