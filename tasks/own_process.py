"""The server's own processes: protection from other programs of its user, which read neither memory nor secrets, and small imports."""

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4


def hide_memory(*, is_hidden: bool = True) -> None:
    """Keep this process's memory and first environment from other programs of its user, and out of core dumps.

    Linux only; root may read them all the same. Processes that it forks inherit this, programs that it
    starts do not: each process of the server calls this first.
    """
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(
        PR_SET_DUMPABLE, int(not is_hidden), 0, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def end_with_parent() -> None:
    """Let the kernel end this process as soon as its parent ends, also if code holds the interpreter's lock (Linux only).

    It does so when the thread ends that has started this process: it must be one that lasts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def keep_secrets() -> None:
    """Remove the settings that are secret from the environment, which every library and program that it starts can read.

    Call `hide_memory` first, and this in each process that executes or serves something.
    """
    from django.conf import settings  # noqa: PLC0415  the command line needs none for the above

    if settings.APFLOW.server.debuggers:
        hide_memory(is_hidden=False)
    for name in settings.APFLOW_SECRET_ENVIRONMENT:
        os.environ.pop(name, None)


def environment_of_servers() -> dict[str, str]:
    """Return the environment for another process of the server, with the settings that are secret."""
    from django.conf import settings  # noqa: PLC0415

    return os.environ | settings.APFLOW_SECRET_ENVIRONMENT


class Forked:
    """A process that this one has forked, with the methods of `subprocess.Popen` that its starter calls."""

    def __init__(self, run: Callable[[], object]) -> None:
        """Fork a process that calls `run`, and ends. Call it before this process has threads."""
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            run()
            code = 0
        except Exception:  # noqa: BLE001  as Python does at the end of a process; nothing of the parent may run here
            traceback.print_exc()
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        return self._collect(os.WNOHANG)

    def wait(self) -> int | None:
        return self._collect(0)

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _collect(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


class without:
    """Lets libraries that this thread imports in the block do without modules that they import only if they are installed.

    Modules that are imported already stay, and all may be imported after the block, and by other threads.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._thread = threading.get_ident()

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Say that a module is not there, as a finder of Python's import system."""
        if name in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is left out", name=name)
