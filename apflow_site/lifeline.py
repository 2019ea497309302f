"""The lifeline of a web process: it ends with the process that started it.

`serve --workers 2` and `--reload` start web processes. If the first process is killed, the others
would serve forever and hold the port, and no further server could start.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def end_with_parent() -> None:
    """Kill this process as soon as the process that started it has ended. A first process has none."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=[parent], name="lifeline", daemon=True).start()


def _watch(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
