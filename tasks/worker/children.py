"""The processes that a supervisor starts: a cluster of workers, and quarantines."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.conf import settings

from tasks.ids import new_id
from tasks.own_process import environment_of_servers
from tasks.queue import leases

END_POLL_SECONDS: Final = 0.05


class Child:
    """A process that runs `module`, and all that it forks: one process group.

    It ends when this process dies (`tasks.worker.lifeline`). Its workers beat under its `id`.
    """

    def __init__(self, module: str) -> None:
        self.id = new_id()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, self.id],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env=environment_of_servers()
            | {"PYTHONPATH": _python_path(), leases.SUPERVISOR_VARIABLE: leases.process_name()},
        )
        self.name = leases.process_name(self._process.pid)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, at_once: threading.Event) -> None:
        """Let it finish after `terminate`, within the drain time and until `at_once` is set; then kill what is left."""
        deadline = time.monotonic() + settings.APFLOW.worker.drain_seconds + 5
        while not (self.has_ended or time.monotonic() > deadline or at_once.wait(END_POLL_SECONDS)):
            pass
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _python_path() -> str:
    """Return the project's folder, then the working folder: `-P` keeps Python from putting it first, where it could have a `tasks` too."""
    return os.pathsep.join([str(settings.BASE_DIR), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
