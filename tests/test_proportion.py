"""The layers that a request passes stay few."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "count_frames.py"


def test_a_request_passes_few_modules_and_few_frames_of_ours() -> None:
    counted = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=240)
    assert counted.returncode == 0, counted.stdout + counted.stderr
    assert "a2a/methods/queries.py\n" in counted.stdout
