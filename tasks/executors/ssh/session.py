"""One command on another host: its output as far as the limits allow, and its end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import asyncssh
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Files, Json
from tasks.executors.command.guarded_process import LineLog
from tasks.executors.ssh.folder import Folder, folder_on

CONNECT_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 0.8
"""The time between SIGTERM and SIGKILL."""
LAST_SECONDS: Final = 0.4
MOST_PIECES: Final = 20_000
"""Packets of output. Each costs processor time, however short it is."""


class Session(asyncssh.SSHClientSession[bytes]):
    """A command. `stdout` and `stderr` contain its output so far, however it ends."""

    def __init__(self, *, most_bytes: int, log: Callable[[str], None]) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.is_flooding = False
        self.return_code: int | None = None
        self.signal: str | None = None
        self.folder: Folder | None = None
        self._left = most_bytes
        self._pieces = 0
        self._lines = LineLog(log)
        self._ended, self._closed = asyncio.Event(), asyncio.Event()

    def connection_made(self, chan: "asyncssh.SSHClientChannel[bytes]") -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        is_error = datatype == asyncssh.EXTENDED_DATA_STDERR
        kept = self.stderr if is_error else self.stdout
        kept += data[: self._left]
        if not is_error:
            self._lines.feed(data[: self._left])
        self._pieces += 1
        if len(data) > self._left or self._pieces > MOST_PIECES:
            self.is_flooding = True
            self._ended.set()
        self._left = max(0, self._left - len(data))

    def exit_status_received(self, status: int) -> None:
        self.return_code = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.signal = signal[:20]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.close()
        self._ended.set()
        self._closed.set()

    async def has_ended(self, *, within_seconds: float) -> bool:
        """Return whether the command ended in time, or printed more than allowed."""
        return await _is_set(self._ended, within_seconds)

    async def stop(self, *, is_forced: bool) -> None:
        """Send SIGTERM, and SIGKILL 0.8 s later; if forced, SIGKILL at once."""
        with suppress(OSError, asyncio.CancelledError):  # the channel is closed, or it is cancelled again
            if not is_forced:
                self._channel.terminate()
                if await _is_set(self._closed, GRACE_SECONDS):
                    return
            self._channel.kill()
            await _is_set(self._closed, LAST_SECONDS)


async def _is_set(event: asyncio.Event, within_seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_seconds):
            await event.wait()
    return event.is_set()


@asynccontextmanager
async def running(
    host: str,
    command: str,
    *,
    log: Callable[[str], None],
    begin: Callable[[], Awaitable[None]],
    given: Json,
    files: Files | None,
) -> AsyncIterator[Session]:
    """Run the command on a host of `executors.ssh.hosts`. The connection is cut when the block ends.

    With `files` it runs in a `folder` of its own, in which are the files `given`.

    `begin` is awaited when there is a connection, before the command is sent. Raises ExecutorError if the host cannot be reached, is not the one that the operator knows, or refuses.
    """
    connection = await _connected(host)
    try:
        async with AsyncExitStack() as stack:
            session = Session(most_bytes=settings.APFLOW.limits.result_bytes, log=log)
            if files is not None:
                session.folder = await stack.enter_async_context(folder_on(connection, host, given, files))
                command = session.folder.command(command)
            try:
                await begin()
                await connection.create_session(lambda: session, command, encoding=None)
            except asyncssh.Error as error:
                raise ExecutorError(f"The host '{host}' did not run the command: {type(error).__name__}.") from None
            yield session
    finally:
        connection.abort()


async def _connected(host: str) -> asyncssh.SSHClientConnection:
    rules: Any = settings.APFLOW.executors.ssh
    user, _, address = rules.hosts[host].partition("@")
    name, _, port = address.partition(":")
    keys, known_hosts = await asyncio.to_thread(_credentials, rules)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncssh.connect(
                name,
                int(port or 22),
                username=user,
                client_keys=keys,
                known_hosts=known_hosts,
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                keepalive_interval=15,
            )
    except asyncssh.HostKeyNotVerifiable:
        raise ExecutorError(
            f"The host '{host}' is refused: its key is not the one in executors.ssh.known_hosts. Either it is another "
            "machine, or its key was changed: the operator has to check it.",
            permanent=True,
        ) from None
    except asyncssh.PermissionDenied:
        raise ExecutorError(
            f"The host '{host}' accepts no key of executors.ssh.keys for the user '{user}'.", permanent=True
        ) from None
    except TimeoutError:
        raise ExecutorError(f"The host '{host}': no connection within {CONNECT_SECONDS:g} s.") from None
    except (asyncssh.Error, OSError) as error:
        raise ExecutorError(f"The host '{host}' cannot be reached ({type(error).__name__}).") from None


def _credentials(rules: Any) -> tuple[list[asyncssh.SSHKey], bytes]:
    """Read the keys and the known hosts. Raises ExecutorError."""
    try:
        keys = [asyncssh.read_private_key(path) for path in rules.keys]
        return keys, Path(rules.known_hosts).read_bytes()
    except (OSError, ValueError) as error:  # a key that cannot be read, or needs a pass phrase, is a ValueError
        raise ExecutorError(
            f"A file of executors.ssh cannot be read ({type(error).__name__}): the operator has to check the paths in keys "
            "and known_hosts, their permissions, and that no key needs a pass phrase.",
            permanent=True,
        ) from None
