"""What a reader has to open, and what a request passes, stays bounded."""

import re
import subprocess
import sys
from pathlib import Path

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
