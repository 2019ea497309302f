"""Nurseries, seen from their worker: it orders processes and is notified when they end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from tasks.executors.docker.order import INSTALLATION_VARIABLE, installation
from tasks.own_process import environment_of_servers
from tasks.pools.line import Line
from tasks.pools.orders import FORK, KILL, ORDER
from tasks.pools.prints import Prints


class NurseryLine:
    """A nursery. Create it on the loop; it starts its process at once. `path` is what the nursery imports first."""

    def __init__(self, path: str | None, *, on_end: Callable[["NurseryLine"], None]) -> None:
        """`on_end` is called after each process that ends."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._on_end = on_end
        self._lines: dict[int, Line] = {}
        self._number = 0
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tasks.pools.nursery", str(theirs.fileno()), *([path] if path else [])],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **settings.APFLOW_PROCESS_ENVIRONMENT(environment_of_servers()),
                    "PYTHONPATH": _python_path(),
                    INSTALLATION_VARIABLE: installation(),
                },
            )
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._hear)

    @property
    def is_closed(self) -> bool:
        return self._control.fileno() < 0

    @property
    def is_empty(self) -> bool:
        return not self._lines

    @property
    def lines(self) -> list[Line]:
        return list(self._lines.values())

    def fork(self) -> Line:
        """Start a process."""
        self._number += 1
        number = self._number
        ours, theirs = socket.socketpair()
        prints = Prints()
        with theirs, suppress(ConnectionError):  # then `_hear` finds the nursery dead
            socket.send_fds(self._control, [ORDER.pack(FORK, number, 0)], [theirs.fileno(), prints.theirs])
        os.close(prints.theirs)
        line = self._lines[number] = Line(ours, path=self._path, prints=prints, kill=lambda: self._kill(number))
        return line

    def close(self) -> None:
        """End the nursery, and with it all of its processes."""
        if self.is_closed:
            return
        self._loop.remove_reader(self._control)
        self._control.close()
        self._process.kill()
        self._process.wait()
        for line in self._lines.values():
            line.exit_code.set_result(-signal.SIGKILL)
        self._lines = {}

    def _kill(self, number: int) -> None:
        if number not in self._lines:
            return
        with suppress(ConnectionError):
            self._control.send(ORDER.pack(KILL, number, 0))

    def _hear(self) -> None:
        try:
            message = self._control.recv(ORDER.size)
        except BlockingIOError:
            return
        except ConnectionError:
            message = b""
        if len(message) < ORDER.size:
            self.close()
            return
        _, number, exit_code = ORDER.unpack(message)
        self._lines.pop(number).exit_code.set_result(exit_code)
        self._on_end(self)


def _python_path() -> str:
    """Return the folders from which this process imports: `-P` keeps Python from putting the working folder first."""
    return os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
