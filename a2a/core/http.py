"""HTTP helpers of all interfaces: read headers and body, reply with JSON, reject a request."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Final, Self
from weakref import WeakValueDictionary

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from a2a.core.errors import RETRY_AFTER_SECONDS, as_rpc, rule_of
from a2a.core.exceptions import BodyTooLarge, UnsupportedMediaType, WrongHttpMethod
from accounts.callers import Caller
from llmkeys import providers as llm_keys
from llmkeys.providers import MalformedKey, SentKey, parse_header
from llmkeys.secret import Secret
from tasks.rules.exceptions import RETRY_SECONDS, InvalidParams
from tasks.rules.files import UPLOAD_VALUES
from tasks.rules.strict_json import decode
from tasks.services.trees import idempotency

VERSION_HEADER: Final = "A2A-Version"
EXTENSIONS_HEADER: Final = "A2A-Extensions"
OLD_EXTENSIONS_HEADER: Final = f"X-{EXTENSIONS_HEADER}"
"""The name of the header in A2A 0.3."""
TOKENS: Final = "tokens"
"""The query parameter of a stream whose client wants words of models as `token` events."""
BOOLEANS: Final = MappingProxyType({"true": True, "false": False})
STATUS_HEADERS: Final = MappingProxyType(
    {
        401: {"WWW-Authenticate": "Bearer"},
        429: {"Retry-After": str(RETRY_SECONDS)},
        503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
    }
)

LARGE_BYTES: Final = 2**18
"""Decoding so much takes some milliseconds, so it is done on a thread. Smaller bodies are decoded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """The headers of a request.

    `url` returns the base URL of the server; `is_single`: not part of a batch.
    """

    last_event_id: str | None = None
    idempotency_key: str | None = None
    llm_key: Secret | None = None
    a2a_version: str = ""
    a2a_extensions: tuple[str, ...] = ()
    url: Callable[[], str] = str
    is_single: bool = True

    @classmethod
    def of(cls, headers: Mapping[str, str], *, url: Callable[[], str] = str, a2a_version: str = "") -> Self:
        """Read the headers of a request or handshake. The version is used if they name none.

        The names in `headers` must be case-insensitive.
        """
        llm_key = headers.get(llm_keys.HEADER)
        return cls(
            last_event_id=headers.get("Last-Event-ID"),
            idempotency_key=headers.get(idempotency.HEADER),
            llm_key=None if llm_key is None else Secret(llm_key),
            a2a_version=headers.get(VERSION_HEADER) or a2a_version,
            a2a_extensions=tuple(requested_extensions(headers)),
            url=url,
        )

    def sent_key(self) -> SentKey | None:
        """Return the parsed LLM key, or None. Raises InvalidParams; its message never contains the key."""
        try:
            return None if self.llm_key is None else parse_header(self.llm_key)
        except MalformedKey as error:
            raise InvalidParams([(llm_keys.HEADER, error.message)]) from None


def headers_of(request: HttpRequest) -> Headers:
    """Return the headers of an HTTP request. The A2A version may also be a query parameter."""
    version = request.GET.get(VERSION_HEADER, "") if request.GET else ""
    return Headers.of(request.headers, url=partial(public_url, request), a2a_version=version)


def requested_extensions(headers: Mapping[str, str]) -> list[str]:
    """Return the URIs of the extensions that the client requests."""
    listed = headers.get(EXTENSIONS_HEADER) or headers.get(OLD_EXTENSIONS_HEADER) or ""
    return [uri for part in listed.split(",") if (uri := part.strip())]


def require_method(request: HttpRequest, *methods: str, also: Sequence[str] = ()) -> None:
    """Raise WrongHttpMethod unless the request has one of these methods.

    A method in `also` is valid for clients that accept HTML; this one does not.
    """
    if request.method in methods:
        return
    supported = [*also, *methods]
    if request.method in also:
        reason = f"answers {request.method} with an HTML page only, but the Accept header excludes text/html"
    else:
        reason = f"supports {', '.join(supported)}, not {request.method}"
    raise WrongHttpMethod(f"{request.path} {reason}.", methods=supported)


def body_of(request: HttpRequest) -> bytes:
    """Read the body of a JSON request.

    Raises UnsupportedMediaType or BodyTooLarge; a body whose Content-Length is too large is not
    read.
    """
    kind = request.content_type or ""
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"Send Content-Type: application/json, not {kind or 'none'}.")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding} is not supported. Send the body unencoded.")
    limit = settings.APFLOW.limits.body_bytes
    if int(request.headers.get("Content-Length") or 0) <= limit:
        body = request.read(limit + 1)
        if len(body) <= limit:
            return body
    raise BodyTooLarge(f"The body has more than {limit} bytes (limits.body_bytes). {UPLOAD_VALUES}.")


class Turns:
    """A lock for each user whose large bodies wait. It belongs to the event loop of the process."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, caller: Caller) -> asyncio.Lock:
        """Return the lock of a user. It exists while it is used."""
        lock = self._locks.get(caller.user_id)
        if lock is None:
            lock = self._locks[caller.user_id] = asyncio.Lock()
        return lock


@cache
def turns() -> Turns:
    """Return the turns of this process."""
    return Turns()


def _is_large(request: HttpRequest) -> bool:
    return int(request.headers.get("Content-Length") or LARGE_BYTES) >= LARGE_BYTES


@asynccontextmanager
async def turn(request: HttpRequest, caller: Caller) -> AsyncIterator[None]:
    """Enter when the user's other requests with large bodies have left. A request with a small body does not wait."""
    if not _is_large(request):
        yield
        return
    async with turns().of(caller):
        await asyncio.sleep(0)  # what has become ready meanwhile comes first
        yield


async def decoded(request: HttpRequest, caller: Caller) -> Any:
    """Return the JSON in the body of a request. Raises MalformedJson, and the errors of `body_of`."""
    if not _is_large(request):
        return decode(body_of(request), nesting=settings.APFLOW.limits.nesting)
    async with turn(request, caller):
        return await asyncio.to_thread(_decode, request)


async def decoded_in_turn(request: HttpRequest) -> Any:
    """Do the same for a request whose turn it is."""
    return await asyncio.to_thread(_decode, request) if _is_large(request) else _decode(request)


def _decode(request: HttpRequest) -> Any:
    return decode(body_of(request), nesting=settings.APFLOW.limits.nesting)


async def decoded_message(body: bytes, caller: Caller | None) -> Any:
    """Return the JSON in a message of a WebSocket. Raises MalformedJson."""
    nesting = settings.APFLOW.limits.nesting
    if caller is None or len(body) < LARGE_BYTES:
        return decode(body, nesting=nesting)
    async with turns().of(caller):
        return await asyncio.to_thread(decode, body, nesting=nesting)


def public_url(request: HttpRequest) -> str:
    """Return the base URL of this server, with a trailing slash: `server.public_url`, or as requested."""
    url = settings.APFLOW.server.public_url or request.build_absolute_uri("/")
    return url.rstrip("/") + "/"


def json_response(value: Any, *, status: int = 200) -> HttpResponse:
    return encoded_response(orjson.dumps(value), status=status)


def encoded_response(body: bytes, *, status: int = 200) -> HttpResponse:
    """Return a response whose body is JSON already."""
    return HttpResponse(body, status=status, headers=json_headers(status) | {"Content-Length": str(len(body))})


def json_headers(status: int) -> dict[str, str]:
    """Return the headers of each JSON response with this status, but for its length."""
    always = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return always | STATUS_HEADERS.get(status, {})


def refusal(error: Exception, *, shape: Callable[[Exception], Any] = as_rpc) -> HttpResponse:
    """Return the reply to a request that failed outside of a JSON-RPC call, with its HTTP status."""
    response = json_response(shape(error), status=rule_of(error).http_status)
    if isinstance(error, WrongHttpMethod):
        response["Allow"] = ", ".join(error.methods)
    return response


def wants_tokens(query: Mapping[str, str]) -> bool:
    """Raise InvalidParams."""
    value = BOOLEANS.get(query.get(TOKENS, "false"))
    if value is None:
        raise InvalidParams([(TOKENS, "must be true or false")])
    return value
