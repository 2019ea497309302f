"""One command as child processes that always end: under a guard, stopped gently or at once."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from aipartnerupflow.executors import ExecutorError
from llmkeys.masker import masked_here

GUARD: Final = str(Path(__file__).with_name("guard.py"))
GRACE_SECONDS: Final = 1.0
"""The time between SIGTERM and SIGKILL."""
LAST_SECONDS: Final = 0.5
"""The time for the guard to kill all processes and for the pipes to be drained."""
LOGGED_LINES: Final = 100
LOGGED_CHARACTERS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits per process; `processes` and `output_bytes` apply to the whole command."""

    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    processes: int
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command, fully resolved and validated."""

    program: str
    argv: Sequence[str]
    home: str
    """A folder created for this command alone: the guard deletes it if the worker dies."""
    cwd: str
    writable: Sequence[str]
    """Folders that it may change, besides `home`."""
    readable: Sequence[str]
    """Files and folders that it may read, besides those of the system."""
    env: Mapping[str, str]
    stdin: str
    limits: Limits


class Running:
    """A command under its guard. `stdout` and `stderr` contain its output so far, however it ends."""

    def __init__(
        self, process: asyncio.subprocess.Process, line: socket.socket, *, max_bytes: int, log: Callable[[str], None]
    ) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.is_flooding = False
        self.report: Mapping[str, int] = {}
        """The guard's report: `started`, and at the end `exited`, `refused`, `crowded` or
        `stopped`, each with a number.
        """
        self._process = process
        self._line = line
        self._max_bytes = max_bytes
        self._lines = LineLog(log)
        self._end = asyncio.create_task(self._follow())

    @property
    def return_code(self) -> int | None:
        """The exit code, negative for a signal; None if the command was stopped before its end."""
        return self.report.get("exited")

    async def has_ended(self, *, within_seconds: float) -> bool:
        done, _ = await asyncio.wait([self._end], timeout=within_seconds)
        for end in done:
            end.result()
        return bool(done)

    async def stop(self, *, is_forced: Callable[[], bool]) -> None:
        """Send SIGTERM to the command's process group, and kill the rest after a second.

        If forced, kill at once.
        """
        with suppress(asyncio.CancelledError):  # cancelled again while it stops: do not wait any longer
            if not is_forced():
                with suppress(ProcessLookupError):
                    self._process.terminate()
                await self.has_ended(within_seconds=GRACE_SECONDS)
        self._kill()
        await self.has_ended(within_seconds=LAST_SECONDS)

    async def close(self) -> None:
        """Make sure that no processes and no open files are left."""
        self._kill()
        try:
            if not await self.has_ended(within_seconds=LAST_SECONDS) and self._process.returncode is None:
                self._process.kill()  # the guard was suspended; killing it ends the command
                await self.has_ended(within_seconds=LAST_SECONDS)
        finally:
            self._end.cancel()
            self._line.close()

    def _kill(self) -> None:
        with suppress(OSError):  # the guard has ended
            self._line.shutdown(socket.SHUT_WR)

    async def _follow(self) -> None:
        """Read until the guard has ended, including what is left in the pipes."""
        assert self._process.stdout and self._process.stderr  # noqa: S101  (both are pipes)
        jobs: list[asyncio.Task[object]] = [
            asyncio.create_task(self._read(self._process.stdout, self.stdout, self._lines.feed)),
            asyncio.create_task(self._read(self._process.stderr, self.stderr)),
            asyncio.create_task(self._process.wait()),
        ]
        try:
            said = b""
            while heard := await asyncio.get_running_loop().sock_recv(self._line, 1024):
                said += heard
            self.report = {word: int(number) for word, number in map(str.split, said.decode().splitlines())}
            if set(self.report) == {"started"}:  # the guard was killed, and the command with it, but not its group
                with suppress(ProcessLookupError):
                    os.killpg(self.report["started"], signal.SIGKILL)
            done, _ = await asyncio.wait(jobs, timeout=LAST_SECONDS)
            for job in done:
                job.result()
            self._lines.close()
        finally:
            for job in jobs:
                job.cancel()

    async def _read(
        self, stream: asyncio.StreamReader, kept: bytearray, feed: Callable[[bytes], None] = lambda chunk: None
    ) -> None:
        while chunk := await stream.read(2**16):
            room = self._max_bytes - len(self.stdout) - len(self.stderr)
            kept += chunk[:room]
            feed(chunk[:room])
            if len(chunk) > room:
                self.is_flooding = True
                self._kill()  # continue to read, to the end: discarding output keeps the command from blocking


class LineLog:
    """Publishes the first lines, without line ends, each cut to a maximum length."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._left = LOGGED_LINES
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        if self._left:
            *lines, rest = (self._rest + chunk).split(b"\n")
            self._rest = rest[: 4 * LOGGED_CHARACTERS]  # a character has at most four bytes
            for line in lines[: self._left]:
                self._log(masked_here(text_of(line.rstrip(b"\r")))[:LOGGED_CHARACTERS])
                self._left -= 1

    def close(self) -> None:
        """Publish a last line without a line end."""
        if self._rest:
            self.feed(b"\n")


@asynccontextmanager
async def running(
    order: Order, *, log: Callable[[str], None], begin: Callable[[], Awaitable[None]]
) -> AsyncIterator[Running]:
    """Start the command; end all of its processes when the block ends.

    `begin` is awaited before the first process starts. Raises ExecutorError if it cannot be started.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        # A file instead of a pipe: it needs no writer, and the command need not read it.
        with theirs, tempfile.TemporaryFile() as stdin:
            await asyncio.to_thread(_fill, stdin, order.stdin)
            await begin()
            process = await _start(order, stdin, theirs.fileno())
    except BaseException as error:
        ours.close()
        if isinstance(error, OSError):
            raise ExecutorError(f"{order.argv[0]} could not be started: {error.strerror}.") from error
        raise
    command = Running(process, ours, max_bytes=order.limits.output_bytes, log=log)
    try:
        yield command
    finally:
        await command.close()


async def _start(order: Order, stdin: IO[bytes], line: int) -> asyncio.subprocess.Process:
    limits = order.limits
    numbers = (line, limits.cpu_seconds, limits.memory_bytes, limits.file_bytes, limits.processes)
    paths = (order.home, *order.writable, *order.readable)
    counts = (len(order.writable), len(order.readable))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-X", "utf8", GUARD, *map(str, (*numbers, *counts)), *paths, order.program, *order.argv),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=order.cwd,
        env=order.env,
        pass_fds=(line,),
        start_new_session=True,
    )


def _fill(file: IO[bytes], text: str) -> None:
    file.write(text.encode())
    file.seek(0)


def text_of(output: bytes | bytearray) -> str:
    """Decode the output. Invalid UTF-8, and NUL, which databases refuse, are replaced."""
    return output.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
