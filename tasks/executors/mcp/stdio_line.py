"""A server that is a process: a message is a line of its standard input or output (MCP 2025-11-25, Transports)."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Final

import orjson

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.http import MAX_BODY_BYTES
from tasks.executors.command.guard import UNCONFINED
from tasks.executors.command.guarded_process import GUARD, LineLog
from tasks.executors.mcp.line import Intake
from tasks.executors.mcp.servers import Target

INHERITED: Final = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
NO_LIMIT: Final = 2**60
WEEK_SECONDS: Final = 7 * 86_400
PROCESSES: Final = 1_024
GRACE_SECONDS: Final = 1.0
"""The time between the end of its input and SIGKILL."""
LAST_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class StdioLine:
    """A process under the guard of commands, which leaves none behind, even if the worker dies."""

    version = ""

    def __init__(self, process: asyncio.subprocess.Process, guard: socket.socket, target: Target) -> None:
        self._process = process
        self._guard = guard
        self._target = target
        self._intake = Intake(target.name)
        self._errors = asyncio.create_task(self._log_errors())

    async def exchange(self, message: Json) -> AsyncGenerator[Json]:
        await self.send(message)
        assert self._process.stdout  # noqa: S101  (it is a pipe)
        while True:
            try:
                line = await self._process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                raise await self._end() from None
            except asyncio.LimitOverrunError:
                raise ExecutorError(
                    f"{self._what}: a message is longer than {MAX_BODY_BYTES} bytes.", permanent=True
                ) from None
            if line.strip():
                for each in self._intake.parsed(line):
                    yield each

    async def send(self, message: Json) -> None:
        assert self._process.stdin  # noqa: S101  (it is a pipe)
        try:
            self._process.stdin.write(orjson.dumps(message) + b"\n")
            await self._process.stdin.drain()
        except OSError:
            raise await self._end() from None

    async def close(self) -> None:
        assert self._process.stdin  # noqa: S101  (it is a pipe)
        self._process.stdin.close()
        rest = asyncio.create_task(self._discard())  # a pipe that is not read to its end stays open
        try:
            if not await self._has_ended(within_seconds=GRACE_SECONDS):
                self._kill()
                if not await self._has_ended(within_seconds=LAST_SECONDS):
                    self._process.kill()  # the guard was suspended; killing it ends the server
            await asyncio.wait([rest, self._errors], timeout=LAST_SECONDS)
        finally:
            self._kill()
            rest.cancel()
            self._errors.cancel()

    @property
    def _what(self) -> str:
        return f"The MCP server '{self._target.name}'"

    def _kill(self) -> None:
        with suppress(OSError):  # the guard has ended
            self._guard.shutdown(socket.SHUT_WR)

    async def _has_ended(self, *, within_seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._process.wait()
        return self._process.returncode is not None

    async def _end(self) -> ExecutorError:
        """Return the error for a server that has closed its output."""
        await self._has_ended(within_seconds=LAST_SECONDS)
        report = b""
        with suppress(OSError):
            report = self._guard.recv(1024)
        words = report.decode().split()
        if "refused" in words:
            why = os.strerror(int(words[words.index("refused") + 1]))
            return ExecutorError(f"{self._what} could not be started: {why}.", permanent=True)
        code = f" with exit code {words[words.index('exited') + 1]}" if "exited" in words else ""
        return ExecutorError(
            f"{self._what} ended{code} before it answered. The log of the worker has the first lines of its error output."
        )

    async def _discard(self) -> None:
        assert self._process.stdout  # noqa: S101  (it is a pipe)
        while await self._process.stdout.read(2**16):
            pass

    async def _log_errors(self) -> None:
        assert self._process.stderr  # noqa: S101  (it is a pipe)
        facts = {"event": "mcp.stderr", "server": self._target.name}
        lines = LineLog(lambda line: logger.info("MCP server %s: %s", self._target.name, line, extra=facts))
        while chunk := await self._process.stderr.read(2**16):
            lines.feed(chunk)
        lines.close()


@asynccontextmanager
async def stdio_line(target: Target) -> AsyncIterator[StdioLine]:
    """Start the server in an empty folder. The caller closes the line. Raises ExecutorError."""
    folder = await asyncio.to_thread(TemporaryDirectory, prefix="apflow-mcp-", ignore_cleanup_errors=True)
    ours, theirs = socket.socketpair()  # not before an `await` that may be cancelled: they would stay open
    ours.setblocking(False)
    try:
        with theirs:
            process = await _start(target, theirs.fileno(), folder.name)
        yield StdioLine(process, ours, target)
    except OSError as error:
        raise ExecutorError(f"The MCP server '{target.name}' could not be started: {error.strerror}.") from error
    finally:
        ours.close()
        await asyncio.to_thread(folder.cleanup)


async def _start(target: Target, guard: int, folder: str) -> asyncio.subprocess.Process:
    limits = (guard, WEEK_SECONDS, NO_LIMIT, NO_LIMIT, PROCESSES, UNCONFINED, 0)
    program = target.command[0]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-X", "utf8", GUARD, *map(str, limits), folder, program, *target.command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={name: os.environ[name] for name in INHERITED if name in os.environ} | dict(target.env),
        pass_fds=(guard,),
        start_new_session=True,
        limit=MAX_BODY_BYTES,
    )
