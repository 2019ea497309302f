"""A line to a server: messages of JSON-RPC in both directions, over HTTP or over the pipes of a process."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import httpx
import orjson

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.http import MAX_BODY_BYTES, wanted_wait_seconds
from tasks.executors.command.guard import UNCONFINED
from tasks.executors.command.guarded_process import GUARD, LineLog
from tasks.executors.http.event_stream import MEDIA_TYPE, data_of, is_event_stream
from tasks.executors.http.rest import PASSING
from tasks.executors.http.safe_http import failure, guarded_client, parse_url, read_body
from tasks.executors.mcp.servers import Target

MOST_BYTES: Final = 16 * 2**20
MOST_MESSAGES: Final = 10_000


class Line(Protocol):
    version: str
    """The revision of the protocol that both sides speak; empty before they have agreed."""

    def exchange(self, message: Json) -> AsyncGenerator[Json]:
        """Send a request, and yield the messages that come until its response, which is among them. Raises ExecutorError."""
        ...

    async def send(self, message: Json) -> None:
        """Send a notification or a response. Raises ExecutorError."""
        ...

    async def close(self) -> None:
        """End what the server keeps for this line. Raises nothing."""
        ...


class Intake:
    """Parses what a server sends in one session, up to so many bytes and messages."""

    def __init__(self, name: str) -> None:
        self._what = f"The MCP server '{name}'"
        self._bytes = 0
        self._messages = 0

    def parsed(self, text: bytes) -> list[Json]:
        """Return the messages in a text: one, or several as a batch. Raises ExecutorError."""
        self._bytes += len(text)
        if self._bytes > MOST_BYTES:
            raise ExecutorError(f"{self._what} sent more than {MOST_BYTES:,} bytes.", permanent=True)
        try:
            value: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise ExecutorError(f"{self._what} sent something that is not JSON.") from None
        messages = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) and each.get("jsonrpc") == "2.0" for each in messages):
            raise ExecutorError(f"{self._what} sent something that is no message of JSON-RPC 2.0.")
        self._messages += len(messages)
        if self._messages > MOST_MESSAGES:
            raise ExecutorError(f"{self._what} sent more than {MOST_MESSAGES:,} messages.", permanent=True)
        return messages


SESSION: Final = "mcp-session-id"
ACCEPTED: Final = {"Accept": f"application/json, {MEDIA_TYPE}", "Accept-Encoding": "identity"}
SAID: Final = 500
CLOSE_SECONDS: Final = 1.0
REMEDIES: Final[Mapping[int, str]] = {
    401: "It wants credentials: {credentials}.",
    403: "The credentials may not do that: {credentials}.",
    404: "Check that the URL is that of its MCP endpoint.",
    405: "It does not speak Streamable HTTP at this URL.",
}


class HttpLine:
    """The requests of one session. A server may give it an id, which each further request has."""

    version = ""

    def __init__(self, client: httpx.AsyncClient, target: Target) -> None:
        self._client = client
        self._target = target
        self._url = parse_url(target.url)
        self._session = ""
        self._intake = Intake(target.name)

    async def exchange(self, message: Json) -> AsyncGenerator[Json]:
        async with self._requested("POST", message) as response:
            if response.status_code != HTTPStatus.OK:
                raise self._refusal(response, await self._body(response))
            self._session = response.headers.get(SESSION, self._session)
            if not is_event_stream(response):
                for each in self._intake.parsed(await self._body(response)):
                    yield each
                return
            async with aclosing(data_of(response.aiter_raw(), self._what)) as events:
                async for data in events:
                    for each in self._intake.parsed(data) if data else ():  # the first event may have an id only
                        yield each

    async def send(self, message: Json) -> None:
        async with self._requested("POST", message) as response:
            if not response.is_success:
                raise self._refusal(response, await self._body(response))

    async def close(self) -> None:
        if self._session:
            with suppress(ExecutorError, TimeoutError):  # the server drops the session by itself some day
                async with asyncio.timeout(CLOSE_SECONDS), self._requested("DELETE", None):
                    pass

    @property
    def _what(self) -> str:
        return f"The MCP server '{self._target.name}'"

    @asynccontextmanager
    async def _requested(self, method: str, message: Json | None) -> AsyncIterator[httpx.Response]:
        headers = {**self._target.headers, **ACCEPTED}
        headers |= {"Content-Type": "application/json"} if message is not None else {}
        headers |= {"MCP-Protocol-Version": self.version} if self.version else {}
        headers |= {SESSION: self._session} if self._session else {}
        content = None if message is None else orjson.dumps(message)
        try:
            async with self._client.stream(method, self._url, headers=headers, content=content) as response:
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(self._what, error) from None

    async def _body(self, response: httpx.Response) -> bytes:
        return await read_body(response, self._what, MAX_BODY_BYTES)

    def _refusal(self, response: httpx.Response, body: bytes) -> ExecutorError:
        status = response.status_code
        key = f"executors.mcp.servers.{self._target.name}.headers"
        credentials = f"the operator sets {key}" if self._target.is_configured else "give inputs.auth or inputs.headers"
        remedy = REMEDIES.get(status, "Redirects are not followed." if 300 <= status < 400 else "")
        said = ""  # the message of a JSON-RPC error in the body, as a sentence
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            error: Any = orjson.loads(body)["error"]
            message = error["message"] if isinstance(error, dict) else error
            said = f"{message[:SAID].rstrip('.')}." if isinstance(message, str) and message else ""
        text = f"{self._what} answered {status}{f': {said}' if said else '.'} {remedy.format(credentials=credentials)}"
        return ExecutorError(
            self._target.masked(text.rstrip()),
            permanent=status < 500 and status not in PASSING,
            retry_after_seconds=wanted_wait_seconds(response.headers.get("retry-after", "")),
        )


@asynccontextmanager
async def http_line(target: Target) -> AsyncIterator[HttpLine]:
    """Open a line to a URL. Raises ExecutorError for an address that the guard refuses, at the first message."""
    async with guarded_client(egress=target.egress) as client:
        yield HttpLine(client, target)


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
            limits = (theirs.fileno(), WEEK_SECONDS, NO_LIMIT, NO_LIMIT, PROCESSES, UNCONFINED, 0)
            arguments = (*map(str, limits), folder.name, target.command[0], *target.command)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-X", "utf8", GUARD, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder.name,
                env={name: os.environ[name] for name in INHERITED if name in os.environ} | dict(target.env),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                limit=MAX_BODY_BYTES,
            )
        yield StdioLine(process, ours, target)
    except OSError as error:
        raise ExecutorError(f"The MCP server '{target.name}' could not be started: {error.strerror}.") from error
    finally:
        ours.close()
        await asyncio.to_thread(folder.cleanup)
