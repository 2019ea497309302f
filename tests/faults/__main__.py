"""`make faults`: run the tests of this folder on each engine, at their sizes.

    python -m tests.faults [pytest arguments]

TEST_ENGINE selects one engine. The rows of the table are stored under `build/faults/`; a test that
fails does not stop the others.
"""

import os
import subprocess
import sys
from typing import Final

from tests.engines import ENGINES
from tests.servers import PYTHON, ROOT

NOTHING_COLLECTED: Final = 5
MARKERS: Final = {"sqlite": "nightly", "postgres": "nightly and both_engines"}
HOURS: Final = 10
"""What one engine may take; the session of pyproject.toml ends earlier, and 0 would end after the first test."""

LONG: Final = ["-o", f"session_timeout={HOURS * 3600}"]


def run(engine: str, arguments: list[str]) -> int:
    """Run the tests on this engine. Returns the exit code of pytest."""
    command = [PYTHON, "-m", "pytest", "-m", MARKERS[engine], "-rP", *LONG, *arguments]
    code = subprocess.run(command, cwd=ROOT, env=os.environ | {"TEST_ENGINE": engine}).returncode
    return 0 if code == NOTHING_COLLECTED else code


def main(arguments: list[str]) -> int:
    engines = [os.environ["TEST_ENGINE"]] if "TEST_ENGINE" in os.environ else ENGINES
    return max(run(engine, arguments or ["tests/faults"]) for engine in engines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
