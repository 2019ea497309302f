"""The lifeline: a process that another one started ends when that one dies, however it dies."""

import os
import signal
import sys
import threading


def die_with_parent() -> None:
    """Kill this process, and those that it forks, as soon as the other end of standard input closes."""
    lifeline = os.dup(sys.stdin.fileno())  # multiprocessing closes standard input in the processes it forks
    _watch(lifeline)
    os.register_at_fork(after_in_child=lambda: _watch(lifeline))


def _watch(lifeline: int) -> None:
    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
