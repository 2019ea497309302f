"""What a reader has to open, and what a request passes, stays bounded."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "weight.py"


def test_the_code_is_no_heavier_than_its_limits() -> None:
    weighed = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=240)
    assert weighed.returncode == 0, weighed.stdout + weighed.stderr
    assert "modules passed by tasks.get" in weighed.stdout
