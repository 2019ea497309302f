"""Streamable HTTP: each message is a POST, whose response is JSON or a stream of events (MCP 2025-11-25, Transports)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.http import MAX_BODY_BYTES, wanted_wait_seconds
from tasks.executors.http.event_stream import MEDIA_TYPE, data_of, is_event_stream
from tasks.executors.http.rest import PASSING
from tasks.executors.http.safe_http import failure, guarded_client, parse_url, read_body
from tasks.executors.mcp.line import Intake
from tasks.executors.mcp.servers import Target

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
        said = _said(body)
        text = f"{self._what} answered {status}{f': {said}' if said else '.'} {remedy.format(credentials=credentials)}"
        return ExecutorError(
            self._target.masked(text.rstrip()),
            permanent=status < 500 and status not in PASSING,
            retry_after_seconds=wanted_wait_seconds(response.headers.get("retry-after", "")),
        )


def _said(body: bytes) -> str:
    """Return the message of a JSON-RPC error in the body, as a sentence; empty if there is none."""
    try:
        error: Any = orjson.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return f"{message[:SAID].rstrip('.')}." if isinstance(message, str) and message else ""


@asynccontextmanager
async def http_line(target: Target) -> AsyncIterator[HttpLine]:
    """Open a line to a URL. Raises ExecutorError for an address that the guard refuses, at the first message."""
    async with guarded_client(egress=target.egress) as client:
        yield HttpLine(client, target)
