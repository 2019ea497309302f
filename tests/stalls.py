"""Runs pytest while some of its processes stand still, as they do on a busy machine.

`python -m tests.stalls OPTION...` passes the options to pytest. It finds tests that depend on time, at the cost of little processor
time.
"""

import random
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

import psutil

STALLS_AT_ONCE: Final = 5
SECONDS: Final = (0.3, 4.0)
"""How long a process stands still: less than any lease lasts."""
PAUSE_SECONDS: Final = 0.3


def main() -> int:
    """Return the exit code of pytest."""
    run = subprocess.Popen([sys.executable, "-m", "pytest", *sys.argv[1:]])
    is_over = threading.Event()
    for _ in range(STALLS_AT_ONCE):
        threading.Thread(target=_stall_until_the_end, args=[psutil.Process(run.pid), is_over]).start()
    try:
        return run.wait()
    finally:
        is_over.set()


def _stall_until_the_end(run: psutil.Process, is_over: threading.Event) -> None:
    while not is_over.wait(random.uniform(0, PAUSE_SECONDS)):
        with suppress(psutil.NoSuchProcess, IndexError):  # it has ended, or there is none yet
            _stall(random.choice(run.children(recursive=True)), is_over)


def _stall(process: psutil.Process, is_over: threading.Event) -> None:
    process.suspend()
    try:
        is_over.wait(random.uniform(*SECONDS))
    finally:
        process.resume()


if __name__ == "__main__":
    sys.exit(main())
