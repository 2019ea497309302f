"""The response of a provider to one call, unchanged.

LiteLLM reads a stream without its faults: a web page, an empty body or a refusal becomes an empty
answer, and an error in the middle a lost connection. So each response is looked at on its way.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

import httpx
import orjson

from tasks.executors.http.safe_http import bound_response
from tasks.executors.llm.merging import Coalesced, Merger
from tasks.telemetry import tracing

MAX_ERROR_BYTES: Final = 64 * 2**10
MAX_WHOLE_BYTES: Final = 64 * 2**20
MAX_REFUSAL_CHARACTERS: Final = 2_000
MAX_CITATIONS: Final = 200
SAMPLE_CHARACTERS: Final = 200
JSON: Final = {"Content-Type": "application/json"}
BINARY: Final = "application/vnd.amazon.eventstream"
"""The type of Bedrock's streams, which only LiteLLM reads."""
PLAIN: Final = ("", "identity")
#: In a JSON text `"stream":` is never part of a string, where quotes are escaped.
ASKS_FOR_A_STREAM: Final = re.compile(rb'"stream":\s*true')
ENDS: Final = frozenset({"message", "message_stop", "response.completed", "response.incomplete", "response.failed"})
BEGINS: Final = frozenset({"message", "message_start", "response.created"})


@dataclass(slots=True, kw_only=True)
class Wire:
    """The facts of one call. `status` None: no response was seen, so nothing is known."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    server: Mapping[str, Any] = field(default_factory=dict)
    """The attributes of a span about where the request went."""
    span: tracing.Span | None = None
    """The span of the call, from which the provider may continue."""
    sounds: Sequence[str] = ()
    """Sounds that the request has to contain."""
    is_deaf: bool = False
    """Whether LiteLLM left out a sound, as it does for models that take none. Then nothing was sent."""
    is_stream: bool = False
    frames: int = 0
    error: Any = None
    """The error that the provider sent in place of an answer, or in the middle of one."""
    body: bytes = b""
    """The beginning of a response with an error status."""
    whole: bytes | None = None
    """The answer, if it came at once though a stream was asked for. The next request gets it, and is not sent."""
    refusal: str = ""
    stray: str = ""
    """The beginning of the first line that is not part of an answer."""
    answer_id: str | None = None
    citations: list[Any] = field(default_factory=list)
    """Addresses, or OpenAI's annotations."""
    has_known_format: bool = False
    is_done: bool = False
    """Whether the answer said that it is complete, if its format is known."""
    has_reached_length: bool = False
    """Whether Ollama says so, whose reason LiteLLM drops."""
    is_closed: bool = False
    """Whether the stream said that it is over."""
    _rest: list[bytes] = field(default_factory=list)
    _data: list[bytes] = field(default_factory=list)
    _lines: list[bytes] = field(default_factory=list)
    """The lines of the part that is being read, unchanged."""
    merger: Merger = field(default_factory=Merger)
    """Has the parts that were read and not yet passed on."""

    @property
    def is_cut(self) -> bool:
        return self.is_stream and self.has_known_format and not (self.is_done or self.is_closed)

    @property
    def is_silent(self) -> bool:
        """Whether a stream was asked for, and nothing came that is part of an answer."""
        return self.is_stream and not self.frames

    def begin(self, response: httpx.Response) -> None:
        request = response.request
        self.status, self.headers = response.status_code, response.headers
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.is_stream = "stream" in request.url.path.lower() or bool(ASKS_FOR_A_STREAM.search(request.content))

    def read(self, data: bytes) -> None:
        """Look at the next bytes of a stream: server-sent events, or a JSON object on each line."""
        if b"\n" not in data:
            self._rest.append(data)
            return
        *lines, rest = b"".join((*self._rest, data)).split(b"\n")
        self._rest = [rest]
        for raw in lines:
            line = raw.strip()
            if line.startswith(b"{") and not self._lines:
                self.merger.add(raw + b"\n", self._read_frame(line), before=b"", after=b"\n")
                continue
            self._lines.append(raw)
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line:  # the end of an event
                event = b"\n".join(self._lines) + b"\n"
                frame = self._read_frame(b"\n".join(self._data)) if self._data else None
                head = b"".join(line + b"\n" for line in self._lines if line.startswith(b"event:"))
                self.merger.add(event, frame, before=head + b"data: ")
                self._lines.clear()
                self._data.clear()
            elif not line.startswith((b":", b"event:", b"id:", b"retry:")):
                self._stray(line)

    def read_whole(self, body: bytes) -> None:
        """Look at an answer that comes at once."""
        self._read_frame(body)

    def close(self) -> None:
        """Read what is left when the stream is over."""
        self.read(b"\n\n")

    def _read_frame(self, text: bytes) -> dict[str, Any] | None:
        """Look at a part, and return its JSON, if it has any."""
        if text == b"[DONE]":
            self.is_closed = True
            return None
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict):
            self._stray(text)
            return None
        self.frames += 1
        self.note(frame)
        return frame

    def _stray(self, text: bytes) -> None:
        self.stray = self.stray or text.decode(errors="replace")[:SAMPLE_CHARACTERS]

    def note(self, frame: Mapping[str, Any]) -> None:
        """Look at one part of an answer, in any provider's format."""
        kind = frame.get("type")
        response = _object(frame.get("response"))
        self.error = self.error or frame.get("error") or response.get("error")
        ids = (frame.get("id"), _object(frame.get("message")).get("id"), response.get("id"), frame.get("responseId"))
        self.answer_id = self.answer_id or next((each for each in ids if isinstance(each, str) and each), None)
        self.has_known_format |= kind in BEGINS or any(name in frame for name in ("choices", "candidates", "done"))
        self.is_done |= kind in ENDS or frame.get("done") is True
        self.has_reached_length |= frame.get("done_reason") == "length"
        for choice in (*_objects(frame.get("choices")), *_objects(frame.get("candidates"))):
            self.is_done |= bool(choice.get("finish_reason") or choice.get("finishReason"))
            delta = _object(choice.get("delta") or choice.get("message"))
            if isinstance(refusal := delta.get("refusal"), str):
                self.refusal = (self.refusal + refusal)[:MAX_REFUSAL_CHARACTERS]
            self.citations += _objects(delta.get("annotations"))[: MAX_CITATIONS - len(self.citations)]
        if reason := _object(frame.get("promptFeedback")).get("blockReason"):
            self.refusal = f"the prompt was blocked ({reason})"
        if isinstance(citations := frame.get("citations"), list):
            self.citations = citations[:MAX_CITATIONS]


WIRE: Final[ContextVar[Wire | None]] = ContextVar("what is known of the call", default=None)


class Watched(httpx.AsyncBaseTransport):
    """A transport that looks at the request and the response of the call that is being made.

    A provider that is not trusted (`is_foreign`) sends no more than `bound_response` allows.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, *, is_foreign: bool = False) -> None:
        self._inner = inner
        self._is_foreign = is_foreign

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        refuse_templates(request)
        wire = WIRE.get()
        if wire is None:
            return await self._inner.handle_async_request(request)
        if wire.whole is not None and request.method == "POST":
            return httpx.Response(HTTPStatus.OK, headers=JSON, content=wire.whole, request=request)
        wire.server = tracing.server(request.url.scheme, request.url.host, request.url.port)
        request.headers.update(tracing.headers_for(request.url.host, wire.span))
        request.headers["Accept-Encoding"] = "identity"  # a compressed stream could not be looked at
        if request.method == "POST" and not all(
            sound[:SAMPLE_CHARACTERS].encode() in request.content for sound in wire.sounds
        ):
            wire.is_deaf = True
            raise httpx.RequestError("a part was left out", request=request)
        response = await self._inner.handle_async_request(request)
        response.request = request
        if self._is_foreign:
            await bound_response(response)
        wire.begin(response)
        if wire.is_stream and wire.content_type == "application/json" and response.is_success:
            await _read_whole(response, wire)
        elif wire.content_type == BINARY or response.headers.get("content-encoding", "identity").lower() not in PLAIN:
            wire.is_stream = False
        else:
            response.stream = _Tapped(response, wire)
        return response

    async def aclose(self) -> None:
        """Close the connections, unless those of other calls are among them: LiteLLM closes clients that it makes after an error."""
        if self._is_foreign:
            await self._inner.aclose()


def refuse_templates(request: httpx.Request) -> None:
    """Refuse to fetch the template of a prompt, which anyone can publish, and which LiteLLM would render.

    LiteLLM then uses its default. Raises httpx.RequestError.
    """
    if request.url.host == "huggingface.co" and "/raw/" in request.url.path:
        raise httpx.RequestError("templates of prompts are not fetched", request=request)


async def _read_whole(response: httpx.Response, wire: Wire) -> None:
    """Read what came at once, though a stream was asked for. Raises httpx.RequestError for an answer, which is then `wire.whole`."""
    body = await _all(cast("httpx.AsyncByteStream", response.stream), response.request)
    wire.read_whole(body)
    if wire.has_known_format and not wire.error:
        wire.whole, wire.is_stream = body, False
        raise httpx.RequestError("an answer that is no stream", request=response.request)
    if not wire.frames:  # it may be a line of JSON for each part
        wire.stray = ""
        wire.read(body)
        wire.close()
        wire.merger.take()
    response.stream = httpx.ByteStream(body)


async def _all(stream: httpx.AsyncByteStream, request: httpx.Request) -> bytes:
    parts: list[bytes] = []
    left = MAX_WHOLE_BYTES
    try:
        async for data in stream:
            left -= len(data)
            if left < 0:
                raise httpx.DecodingError(f"longer than {MAX_WHOLE_BYTES} bytes", request=request)
            parts.append(data)
    finally:
        await stream.aclose()
    return b"".join(parts)


class _Tapped(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, wire: Wire) -> None:
        self._request = response.request
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._wire = wire
        self._coalesced = Coalesced(self._frames(), wire.read, wire.merger)

    async def _frames(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            yield data
        yield b"\n\n"  # ends a last part without an end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        wire = self._wire
        if (wire.status or 0) >= HTTPStatus.BAD_REQUEST:
            async for data in self._stream:
                wire.body += data[: MAX_ERROR_BYTES - len(wire.body)]
                yield data
        elif wire.is_stream:
            async for data in self._coalesced:
                yield data
        else:
            body = await _all(self._stream, self._request)
            wire.read_whole(body)
            yield body

    async def aclose(self) -> None:
        await self._coalesced.aclose()
        await self._stream.aclose()


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
