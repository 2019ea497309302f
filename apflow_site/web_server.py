"""Uvicorn, stopped without resetting a connection.

Uvicorn closes its listening socket while connections may wait in the queue of the kernel, and
closes connections whose first request has not been read yet. The kernel resets both.
"""

import asyncio
import logging
import os
import signal
import site
import socket
import struct
import sys
import sysconfig
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from django.conf import settings
from uvicorn.server import ServerState
from uvicorn.supervisors import multiprocess

from tasks.own_process import hide_memory

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 0.05
"""The seconds that a client may take to complete a connection that it has begun to open."""
FIRST_REQUEST_SECONDS: Final = 2.0
"""The seconds that a new connection may take to send its request."""
POLL_SECONDS: Final = 0.02
DATE_SECONDS: Final = 1.0
"""The greatest age of the date in the headers of a response."""

INSTALLED: Final = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
"""The places of Python and of installed packages, by their names in `sysconfig`."""

SO_ATTACH_FILTER: Final = 26
NO_SYN: Final = (  # BPF: load the flags of the TCP header; drop the packet if SYN is set and ACK is not
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


class WebConfig(uvicorn.Config):
    """The configuration of web processes, which takes the secrets of the environment along.

    `multiprocessing` sends it through a pipe to each web process that it starts.
    """

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"secrets": settings.APFLOW_SECRET_ENVIRONMENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        hide_memory()
        os.environ.update(state.pop("secrets"))
        vars(self).update(state)


class DatedState(ServerState):
    """Updates the date in the headers of responses when one needs it. Uvicorn does so every second."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._dated_at = float("-inf")
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response, with the date."""
        now = time.time()
        if abs(now - self._dated_at) > DATE_SECONDS:
            self._dated_at = now
            self._headers = [(b"date", formatdate(now, usegmt=True).encode()), *self._config.encoded_headers]
        return self._headers

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers


class WebServer(uvicorn.Server):
    """Answers the requests of all clients that have connected before it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = DatedState(config)
        self._end_wait: Callable[[], object] = lambda: None

    async def main_loop(self) -> None:
        """Wait for a signal. Uvicorn looks ten times a second whether there was one."""
        has_signal = asyncio.Event()
        self._end_wait = partial(asyncio.get_running_loop().call_soon_threadsafe, has_signal.set)
        while not self.should_exit:
            await has_signal.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._end_wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        listeners = [_duplicate(each.fileno()) for server in self.servers for each in server.sockets]
        if (
            sockets is None
        ):  # otherwise other processes listen on them, too, and only `WebProcesses` knows whether all stop
            for listener in listeners:
                refuse_connections(listener)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for listener in listeners:
            waiting = []
            with listener:
                while (connection := _accepted(listener)) is not None:
                    waiting.append(connection)
            loop = asyncio.get_running_loop()
            for connection in waiting:
                await loop.connect_accepted_socket(self._protocol, connection)
        # Wait until no connection is new. At least once, so that what has arrived is read.
        deadline = time.monotonic() + FIRST_REQUEST_SECONDS
        await asyncio.sleep(POLL_SECONDS)
        while self._is_any_new() and time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(POLL_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]

    def _is_any_new(self) -> bool:
        """Return whether a connection has not sent a request. WebSockets have no `cycle`; theirs was the handshake."""
        return any(getattr(each, "cycle", each) is None for each in self.server_state.connections)


class WebProcess(multiprocess.Process):
    """One of several web processes."""

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        _ = self.server  # made before the thread that answers pings asks for it, too
        super().target(sockets)

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = WebServer(self.config)
        return self._server


class WebProcesses(multiprocess.Multiprocess):
    """Web processes that share a listening socket, and stop together.

    If code below one of the `watched` folders changes, other processes replace them, one by one. A
    process whose replacement does not start continues.
    """

    def __init__(self, config: uvicorn.Config, *, drain_seconds: int, watched: Sequence[Path] = ()) -> None:
        self._drain_seconds = drain_seconds
        self._watched = watched
        multiprocess.Process = WebProcess  # type: ignore[misc]  # uvicorn has no parameter for its class
        super().__init__(config, [config.bind_socket()])

    def run(self) -> None:
        if self._watched:
            threading.Thread(target=self._watch, name="reload", daemon=True).start()
        super().run()

    def _watch(self) -> None:
        """Ask for other processes when code changes: with the signal that asks uvicorn for them."""
        from watchfiles import PythonFilter, watch  # noqa: PLC0415  only for this option

        is_code = PythonFilter(extra_extensions=(".yaml", ".yml"))  # crews are YAML, too
        changes = watch(
            *self._watched, watch_filter=is_code, stop_event=self.should_exit, ignore_permission_denied=True
        )
        for changed in changes:
            log.warning("Reload: %s changed", ", ".join(sorted({path for _, path in changed})))
            if signal.SIGHUP not in self.signal_queue:
                self.signal_queue.append(signal.SIGHUP)

    def terminate_all(self) -> None:
        """Let the processes drain, and refuse connections before the first of them stops.

        Then close the socket here: connections that only this process would hold are reset.
        """
        if self._drain_seconds:
            super().terminate_all()
            # Sleep, but not longer than a process lives.
            deadline = time.monotonic() + self._drain_seconds
            while time.monotonic() < deadline and any(each.process.is_alive() for each in self.processes):
                time.sleep(POLL_SECONDS)
        for listener in self.sockets:
            refuse_connections(listener)
            listener.close()
        if not self._drain_seconds:
            super().terminate_all()


def code_folders() -> list[Path]:
    """Return the folders with code that is not installed: those of the import path, and of what is imported, as plug-ins are."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    folders = {Path(folder).resolve() for folder in sys.path} | {Path(file).resolve().parent for file in files if file}
    paths = sysconfig.get_paths()
    places = [*site.getsitepackages(), site.getusersitepackages(), *(paths[name] for name in INSTALLED)]
    installed = [Path(place).resolve() for place in places]
    own = [each for each in folders if each.is_dir() and not any(map(each.is_relative_to, installed))]
    return sorted(each for each in own if not any(parent in own for parent in each.parents))


def refuse_connections(listener: socket.socket) -> None:
    """Drop requests to open a connection; those that are open or half open are not affected.

    A client repeats the request a second later. The listener has been closed since, so the client
    is refused, and may safely try elsewhere. Only Linux can do this, and some kernels only for root.
    """
    if sys.platform != "linux":
        return
    code = array("B", b"".join(struct.pack("HBBI", *line) for line in NO_SYN))
    address, _ = code.buffer_info()
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(NO_SYN), address))
    except PermissionError:
        log.info("The kernel allows this user no socket filter: a client that connects now may be reset")


def _duplicate(descriptor: int) -> socket.socket:
    listener = socket.socket(fileno=os.dup(descriptor))
    listener.setblocking(False)
    return listener


def _accepted(listener: socket.socket) -> socket.socket | None:
    """Return the next connection in the queue; None if it is empty."""
    try:
        connection, _ = listener.accept()
    except OSError:  # also of a client that has gone meanwhile
        return None
    connection.setblocking(False)
    return connection
