"""The nursery: a process that forks the processes of a pool, and ends them when its worker dies.

A worker starts it as `python -m tasks.pools.nursery DESCRIPTOR [PATH]` and sends orders through that
socket. It imports PATH, such as `module.function`, first, so that the processes share its memory and start within milliseconds.
It never runs code of tasks, so nothing of theirs can hold it up.
"""

import gc
import os
import signal
import socket
import sys
import warnings
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import NoReturn

import django

from tasks.own_process import hide_memory

hide_memory()
gc.disable()  # nothing that is imported here becomes garbage
django.setup()

from django.conf import settings  # noqa: E402

from tasks.executors.command.guard import IS_LINUX, children  # noqa: E402
from tasks.executors.llm.loading import load_now  # noqa: E402  (needs the apps)
from tasks.pools import child  # noqa: E402
from tasks.pools.family import adopt_orphans  # noqa: E402
from tasks.pools.frames import ENDED, FORK, KILL, ORDER  # noqa: E402


class Nursery:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}
        """The processes by the number that the worker gave."""
        self._own = frozenset(children(os.getpid())) if IS_LINUX else frozenset()
        """The processes that a library has started."""

    def serve(self) -> None:
        """Carry out orders until the worker is gone."""
        wake_up, write_end = socket.socketpair()
        wake_up.setblocking(False)
        write_end.setblocking(False)
        signal.set_wakeup_fd(write_end.fileno(), warn_on_full_buffer=False)
        selector = DefaultSelector()
        selector.register(self._control, EVENT_READ)
        selector.register(wake_up, EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake_up:
                    wake_up.recv(4096)
                elif not self._obey():
                    return
            for number, pid in list(self._pids.items()):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    del self._pids[number]
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGKILL)  # what it has started
                    with suppress(ConnectionError):
                        self._control.sendall(ORDER.pack(ENDED, number, os.waitstatus_to_exitcode(status)))
            self._end_orphans()

    def end(self) -> NoReturn:
        for pid in self._pids.values():
            _kill(pid)
        os._exit(0)

    def _obey(self) -> bool:
        """Carry out one order. False: the worker is gone."""
        try:
            order, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, 2)
        except ConnectionError:
            return False
        if len(order) < ORDER.size:
            return False
        kind, number, _ = ORDER.unpack(order)
        if kind == FORK:
            line, output = descriptors
            pid = os.fork()
            if pid == 0:
                self._control.close()
                signal.set_wakeup_fd(-1)
                child.main(line, output)
            os.close(line)
            os.close(output)
            self._pids[number] = pid
        elif kind == KILL and number in self._pids:
            _kill(self._pids[number])
        return True

    def _end_orphans(self) -> None:
        """Kill processes that have left the group of one that has ended: they are children of this process now."""
        for pid in set(children(os.getpid())) - set(self._pids.values()) if IS_LINUX else ():
            if pid not in self._own:
                with suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)  # or after the signal that it has ended


def _kill(pid: int) -> None:
    """Kill the process group that the process leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # before it has made the group


def main(descriptor: int, path: str | None) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # a service manager sends SIGTERM to all; the worker decides
    hide_memory(is_hidden=not settings.APFLOW.server.debuggers)
    if path is not None:
        load_now(path)
    adopt_orphans()
    nursery = Nursery(socket.socket(fileno=descriptor))
    # A library may have a thread of its own, which stays here. It is idle, so it holds no lock.
    warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)
    gc.collect()
    gc.freeze()
    try:
        nursery.serve()
    finally:
        nursery.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
