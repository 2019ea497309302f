"""Read server-sent events of other servers, through the guarded client."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

import httpx

from aipartnerupflow.executors import ExecutorError, HttpResponse
from aipartnerupflow.executors.http import MAX_BODY_BYTES
from tasks.executors.http.safe_http import (
    CONNECT_TIMEOUT_SECONDS,
    checked_headers,
    failure,
    guarded_client,
    parse_url,
    read_body,
)

MEDIA_TYPE: Final = "text/event-stream"
MAX_STREAM_BYTES: Final = 16 * MAX_BODY_BYTES
SILENCE_SECONDS: Final = 300.0
"""After this long without a byte, not even a comment, the connection counts as lost."""


class NoStream(Exception):
    """The response is not an event stream: `reply` contains all of it."""

    def __init__(self, reply: HttpResponse) -> None:
        super().__init__(f"{reply.status_code}, and no {MEDIA_TYPE}")
        self.reply = reply


async def events(method: str, url: str, *, headers: Mapping[str, str], content: bytes | None) -> AsyncGenerator[bytes]:
    """Yield the data of each event until the server ends the stream. There is no overall timeout.

    Raises NoStream; ExecutorError if the connection fails, is silent for 300 s, or sends too much.
    """
    target, wanted = parse_url(url), {"Accept": MEDIA_TYPE, "Accept-Encoding": "identity"}
    what = f"{method} {target.copy_with(query=None)}"
    sent = {**checked_headers(headers), **wanted}
    timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS, read=SILENCE_SECONDS)
    try:
        async with (
            guarded_client() as client,
            client.stream(method, target, headers=sent, content=content, timeout=timeout) as response,
        ):
            if response.status_code != 200 or not is_event_stream(response):
                body = await read_body(response, what, MAX_BODY_BYTES)
                reply = HttpResponse(
                    url=str(response.url),
                    status_code=response.status_code,
                    headers=response.headers,
                    body=body,
                    elapsed_ms=0.0,
                )
                raise NoStream(reply)
            async with aclosing(data_of(response.aiter_raw(), what)) as data:
                async for each in data:
                    yield each
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise failure(what, error) from None


def is_event_stream(response: httpx.Response) -> bool:
    content_type = str(response.headers.get("content-type", "")).partition(";")[0]
    return content_type.strip().lower() == MEDIA_TYPE


async def data_of(chunks: AsyncIterator[bytes], what: str) -> AsyncGenerator[bytes]:
    """Yield the `data` of each event (WHATWG HTML, 9.2.6).

    An event cut off by the end of the stream is dropped. Raises ExecutorError for more than is allowed.
    """
    data, size = list[bytes](), 0
    async with aclosing(_lines(chunks, what)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
                if size > MAX_BODY_BYTES:
                    raise _too_long(what)
            elif not line and data:
                yield b"\n".join(data)
                data, size = [], 0


async def _lines(chunks: AsyncIterator[bytes], what: str) -> AsyncGenerator[bytes]:
    """Yield whole lines. The work is linear, however small the chunks are."""
    rest, total = bytearray(), 0
    async for chunk in chunks:
        total += len(chunk)
        first, *others = chunk.split(b"\n")
        rest += first
        if total > MAX_STREAM_BYTES or len(rest) > MAX_BODY_BYTES:
            raise _too_long(what)
        if others:
            *whole, last = [bytes(rest), *others]
            for line in whole:
                yield line.removesuffix(b"\r")
            rest = bytearray(last)


def _too_long(what: str) -> ExecutorError:
    return ExecutorError(f"{what}: the stream is longer than allowed.", permanent=True)
