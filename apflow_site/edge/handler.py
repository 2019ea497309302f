"""The ASGI application for HTTP. It calls the views for programs itself, and leaves pages to Django's handler."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any, BinaryIO, Final, TypeVar, cast, overload

from asgiref.sync import ThreadSensitiveContext, markcoroutinefunction
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.urls import ResolverMatch, resolve, set_script_prefix
from django.utils.decorators import async_only_middleware
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from a2a.core.metrics import request_facts
from a2a.core.process import this_drain
from a2a.endpoints.files import BODY
from accounts.audit import ADDRESS
from apflow_site.edge.bodies import (
    IN_MEMORY_BYTES,
    Body,
    Message,
    Receive,
    Scope,
    Send,
    first,
    limited,
    read_into,
    read_whole,
)
from apflow_site.edge.calls import REQUEST_ID_HEADER, plain_headers, reply_to, request_id_of
from apflow_site.edge.hosts import foreign, is_page
from apflow_site.logs import log_answered
from tasks.storage.loads import limited_loads
from tasks.telemetry.tracing import span, with_log_ids

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def edge(get_response: GetResponse) -> GetResponse:
    """Reject foreign hosts and origins, and give every request an id.

    The id in the header `X-Request-Id` is kept if it is valid.

    Log records of the request and the response contain the id. With `log.requests`, each request is
    logged with its route, not its path: a path may contain a secret. The thread of a request is
    released when the response begins, so open streams occupy none.
    """
    return _edge(get_response, page_response=_wrapped(get_response, settings.PAGE_MIDDLEWARE))


@async_only_middleware
def program_edge(get_response: GetResponse) -> GetResponse:
    """Return the middleware for views of programs only, without what pages need: a second list of all static files."""
    return _edge(get_response, page_response=get_response)


def _edge(get_response: GetResponse, *, page_response: GetResponse) -> GetResponse:
    own_response = guarded(get_response)
    other_origin_response = _wrapped(get_response, settings.OTHER_ORIGIN_MIDDLEWARE)

    def response_for(request: HttpRequest) -> GetResponse:
        if is_page(method=request.method, path=request.path):
            return page_response
        return other_origin_response if "Origin" in request.headers else own_response

    async def answer(request: HttpRequest) -> HttpResponseBase:
        request_id = request_id_of(request.headers.get(REQUEST_ID_HEADER, ""))
        parent = request.headers.get("traceparent")
        facts = {"http.request.method": request.method, "apflow.request.id": request_id}
        address = ADDRESS.set(_address_of(request))
        try:
            with (
                with_log_ids(request=request_id),
                request_facts() as noted,
                span(str(request.method), facts, kind="server", parent=parent) as note,
            ):
                started = time.perf_counter()
                response: HttpResponseBase | None = foreign(request)
                if response is None:
                    async with ThreadSensitiveContext():
                        response = await response_for(request)(request)
                    response.headers.setdefault("X-Content-Type-Options", "nosniff")  # for every kind of response
                route = f"/{request.resolver_match.route}" if request.resolver_match else None
                note({"http.route": route, "http.response.status_code": response.status_code})
                if settings.APFLOW.log.requests:
                    seconds = time.perf_counter() - started
                    status = response.status_code
                    log_answered(method=request.method, route=route, status=status, seconds=seconds, noted=noted)
        finally:
            ADDRESS.reset(address)
        response.headers.setdefault(REQUEST_ID_HEADER, request_id)
        return response

    return answer


def _address_of(request: HttpRequest) -> str:
    if not isinstance(request, ASGIRequest):
        return request.META.get("REMOTE_ADDR") or ""
    client = request.scope.get("client")  # `META` is not made for each request of a program
    return str(client[0]) if client else ""


def _wrapped(get_response: GetResponse, middleware: Sequence[str]) -> GetResponse:
    """Apply the middleware, of which the first is the outermost. It sees the responses to exceptions, too."""
    chain: Any = guarded(get_response)
    for path in reversed(middleware):
        chain = import_string(path)(chain)
    return guarded(chain)


def guarded(get_response: GetResponse) -> GetResponse:
    """Turn exceptions into responses, as Django does for each of its middleware."""
    return cast("GetResponse", convert_exception_to_response(get_response))


FILES: Final = "/files"
JSON: Final = "application/json"
MOST_PATHS: Final = 256
WATCHED_AFTER_SECONDS: Final = 0.05
"""The seconds after which a request notices that its client has left. Most have been answered by then."""
T = TypeVar("T")


class SentHeaders(Mapping[str, str]):
    """The headers of a request, by their names in any case. Values of the same name are joined with commas.

    Names with an underscore are left out: a proxy may take one for the name with a hyphen.
    """

    __slots__ = ("_values",)

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for sent_name, sent_value in headers:
            name, value = sent_name.decode("latin-1").lower(), sent_value.decode("latin-1")
            if "_" not in name:
                self._values[name] = f"{self._values[name]},{value}" if name in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str) -> str: ...
    @overload
    def get(self, name: str, /, default: T) -> str | T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """Return the value, or the default. Most headers are not there, and Mapping raises an exception for each of them."""
        return self._values.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class ProgramRequest(ASGIRequest):
    """Django's request, for a program: values that few views need are computed when a view reads them.

    Django copies every header into `META` under another name and back under its own, which takes longer than to find
    a task. Raises UnicodeDecodeError for a query that is not UTF-8.
    """

    def __init__(self, scope: Scope, body: Body) -> None:
        """Set what Django's own constructor sets, but for `META` and what comes of it."""
        self.scope = scope
        self.script_name = get_script_prefix(scope)
        self.path = scope["path"]
        self.path_info = self.path.removeprefix(self.script_name)
        self.method = scope["method"].upper()
        self.resolver_match = None
        self._query = scope["query_string"].decode()
        self._stream = cast("BinaryIO", body)
        self._post_parse_error = False
        self._read_started = False
        sent_type = self.headers.get("Content-Type", "")
        if sent_type == JSON:
            self.content_type, self.content_params = JSON, {}
        else:
            self._set_content_type_params({"CONTENT_TYPE": sent_type})  # type: ignore[attr-defined]

    @cached_property
    def headers(self) -> SentHeaders:  # type: ignore[override]
        """The headers, with all members of Django's class that views use."""
        return SentHeaders(self.scope["headers"])

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]
        return QueryDict(self._query) if self._query else EMPTY

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]
        return ASGIRequest(self.scope, self._stream).META


EMPTY: Final = QueryDict("")
"""It cannot be changed, so all requests without a query share it."""


class Http(ASGIHandler):
    """Django's handler, and two shorter ways: for most JSON-RPC calls, and for other views that need nothing of Django's handler.

    Django's handler sends signals and joins a thread for each request, which takes longer than reading a task. A view
    of a program's interface is a coroutine function and reads the database on threads of its own, so it is called
    directly, through the same layers of `edge`. A plain call needs not even these (`apflow_site.edge.calls`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._answer = guarded(program_edge(_call_view))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if this_drain().is_on:
            send = closing(send)
        if (headers := plain_headers(scope)) is not None:
            if (whole := await read_whole(receive)) is None:
                return
            with limited_loads(), until_left(receive):
                if (reply := await reply_to(scope, headers, whole)) is not None:
                    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
                    await send({"type": "http.response.body", "body": reply.body})
                    return
            receive = first(whole, receive)
        is_upload = scope["path"].startswith(FILES) and scope["method"] in ("POST", "PUT")
        if is_upload:  # its view reads the body, as it arrives
            scope = {**scope, BODY: receive}
        receive = limited(receive, headers=scope["headers"])
        with limited_loads(), Body(IN_MEMORY_BYTES) as body:
            request = program_request(scope, body)
            if request is None:
                await self.handle(scope, receive, send)
            elif is_upload:
                await self.send_response(await self._answer(request), send)
            elif await read_into(body, receive):
                with until_left(receive):
                    await self.send_response(await self._answer(request), send)

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        """Send the response, and free its body: request and response refer to each other.

        Until the next full garbage collection they stay in memory, and a body may have 32 MiB.
        """
        if not isinstance(response, HttpResponse):
            await super().send_response(response, send)
            return
        try:
            if response.cookies or len(response.content) > self.chunk_size:
                await super().send_response(response, send)
            else:
                headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                await send({"type": "http.response.body", "body": response.content})
        finally:
            response.content = b""


def program_request(scope: Scope, body: Body) -> ProgramRequest | None:
    """Return the request, with its view, if that is a coroutine function for programs; None if Django's handler answers it."""
    if is_page(method=scope["method"], path=scope["path"]):
        return None
    if scope.get("root_path"):
        set_script_prefix(get_script_prefix(scope))
    try:
        request = ProgramRequest(scope, body)
        request.resolver_match = _program_view_at(request.path_info)
    except (UnicodeDecodeError, Http404):
        return None
    return None if request.resolver_match is None else request


@lru_cache(MOST_PATHS)
def _program_view_at(path: str) -> ResolverMatch | None:
    """Return the view, if it is a coroutine function. Raises Http404. Django compares a path with one URL after the other."""
    match = resolve(path)
    return match if iscoroutinefunction(match.func) else None


def load_views() -> None:
    """Import the views now: the first request is no slower than the second."""
    _program_view_at("/api/tasks/")


@markcoroutinefunction
def _call_view(request: HttpRequest) -> Awaitable[HttpResponseBase]:
    match = cast("ResolverMatch", request.resolver_match)
    called: Awaitable[HttpResponseBase] = match.func(request, *match.args, **match.kwargs)
    return called


def closing(send: Send) -> Send:
    """Wrap `send` to close the connection after the response, with the header that announces it.

    The client then opens the next one, and a load balancer opens it to another process.
    """

    async def send_last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_last


class until_left:
    """Cancels the block when the client leaves. A class, because every request enters it.

    The client is watched after WATCHED_AFTER_SECONDS only: a task for each request would cost more
    than most requests.
    """

    __slots__ = ("_has_left", "_listening", "_loop", "_receive", "_request", "_timer")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    def __enter__(self) -> None:
        self._has_left = False
        self._listening: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._request = cast("asyncio.Task[None]", asyncio.current_task())
        self._timer = self._loop.call_later(WATCHED_AFTER_SECONDS, self._begin)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()
        is_ours = kind is not None and issubclass(kind, asyncio.CancelledError) and self._has_left
        return is_ours and not self._request.uncancel()

    def _begin(self) -> None:
        self._listening = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        self._request.cancel()
