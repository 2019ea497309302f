"""The first layer of HTTP requests: body limit, host checks, request id, page middleware.

The checks of `Host` and `Origin` prevent DNS rebinding: a web page whose name resolves to 127.0.0.1
can reach a server on loopback, but sends its own name as Host. Literal addresses cannot be rebound
and are always accepted.
"""

import ipaddress
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import SplitResult, urlsplit
from uuid import uuid4

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.decorators import async_only_middleware
from django.utils.module_loading import import_string
from structlog.contextvars import bound_contextvars

from a2a.core.draining import this_drain
from a2a.core.metrics import request_facts
from apflow_site.logs import log_request
from apflow_site.origins import is_allowed_origin, is_own_origin
from tasks.storage.loads import limited_loads
from tasks.telemetry.tracing import span

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

REQUEST_ID_HEADER: Final = "X-Request-Id"
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request ids that are accepted from a proxy; a request with any other id gets a new one."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PREFIXES: Final = ("/ui/", "/admin/", "/login/", "/logout/", "/answer/", "/static/")
FRONT: Final = "/"
"""GET returns a page, POST is JSON-RPC."""
END: Message = {"type": "http.request", "body": b"", "more_body": False}


class Http(ASGIHandler):
    """Django's handler with a body limit.

    Without it, Django writes the whole body to disk before the view runs.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with limited_loads():
            await self.handle(
                scope, limited(receive, headers=scope["headers"]), closing(send) if this_drain().is_on else send
            )

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        """Send the response, and free its body: request and response refer to each other.

        Until the next full garbage collection they stay in memory, and a body may have 32 MiB.
        """
        try:
            await super().send_response(response, send)
        finally:
            if isinstance(response, HttpResponse):
                response.content = b""


def closing(send: Send) -> Send:
    """Wrap `send` to close the connection after the response, with the header that announces it.

    The client then opens the next one, and a load balancer opens it to another process.
    """

    async def send_last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_last


def limited(receive: Receive, *, headers: Iterable[tuple[bytes, bytes]]) -> Receive:
    """Wrap `receive` to end the body once it exceeds `limits.body_bytes`.

    The views see a body that is too long and reject it. The rest of the body is read and discarded.
    """
    left = settings.APFLOW.limits.body_bytes
    is_cut = any(name == b"content-length" and int(value) > left for name, value in headers)
    has_ended = False

    async def receive_limited() -> Message:
        nonlocal left, is_cut, has_ended
        if is_cut and not has_ended:
            has_ended = True
            return END
        message = await receive()
        while has_ended and message["type"] == "http.request":
            message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            is_cut, has_ended = left < 0, not message.get("more_body", False)
        return message

    return receive_limited


@async_only_middleware
def edge(get_response: GetResponse) -> GetResponse:
    """Reject foreign hosts and origins, and give every request an id.

    The id in the header `X-Request-Id` is kept if it is valid.

    Log records of the request and the response contain the id. With `log.requests`, each request is
    logged with its route, not its path: a path may contain a secret. The thread of a request is
    released when the response begins, so open streams occupy none.
    """
    page_response = _wrapped(get_response, settings.PAGE_MIDDLEWARE)
    other_origin_response = _wrapped(get_response, settings.OTHER_ORIGIN_MIDDLEWARE)

    def response_for(request: HttpRequest) -> GetResponse:
        if is_page(request):
            return page_response
        return other_origin_response if "Origin" in request.headers else get_response

    async def answer(request: HttpRequest) -> HttpResponseBase:
        sent = request.headers.get(REQUEST_ID_HEADER, "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else str(uuid4())
        parent = request.headers.get("traceparent")
        facts = {"http.request.method": request.method, "apflow.request.id": request_id}
        with (
            bound_contextvars(request=request_id),
            request_facts() as noted,
            span(str(request.method), facts, kind="server", parent=parent) as note,
        ):
            started = time.perf_counter()
            response = _foreign(request)
            if response is None:
                async with ThreadSensitiveContext():
                    response = await response_for(request)(request)
                response.headers.setdefault("X-Content-Type-Options", "nosniff")  # for every kind of response
            route = f"/{request.resolver_match.route}" if request.resolver_match else None
            note({"http.route": route, "http.response.status_code": response.status_code})
            if settings.APFLOW.log.requests:
                seconds = time.perf_counter() - started
                log_request(request, response, route=route, seconds=seconds, noted=noted)
        response.headers.setdefault(REQUEST_ID_HEADER, request_id)
        return response

    return answer


def _wrapped(get_response: GetResponse, middleware: Sequence[str]) -> GetResponse:
    """Apply the middleware, of which the first is the outermost."""
    chain: Any = get_response
    for path in reversed(middleware):
        chain = import_string(path)(chain)
    # As Django does for each of its middleware.
    return cast("GetResponse", convert_exception_to_response(chain))


def is_page(request: HttpRequest) -> bool:
    """Whether the response is a page for a browser."""
    if request.path == FRONT:
        return request.method in ("GET", "HEAD")
    return request.path.startswith(PREFIXES)


def _foreign(request: HttpRequest) -> HttpResponseBase | None:
    """The error reply to a foreign `Host` (400) or a write from a foreign `Origin` (403), or None."""
    host = request.headers.get("Host", "")
    if not is_own_host(host):
        return _refusal(400, f"Host {host!r} is not allowed. Add it to server.allowed_hosts.")
    origin = request.headers.get("Origin")
    if not origin or request.method in SAFE_METHODS or is_own_origin(origin, host=host):
        return None
    if is_allowed_origin(origin) and not is_page(request):
        return None
    return _refusal(403, f"Origin {origin!r} is not the origin of this server, nor in server.allowed_origins.")


def _refusal(status: int, message: str) -> JsonResponse:
    return JsonResponse({"error": {"code": status, "message": message}}, status=status)


def is_own_host(host: str) -> bool:
    """Whether `Host` is an address, a name of this machine, or in `server.allowed_hosts`."""
    name = (_split(f"//{host}").hostname or "").rstrip(".")
    return name in _own_names() or name.endswith(".localhost") or _is_address(name)


def _split(url: str) -> SplitResult:
    """Split a URL from a client; all parts are empty if it is malformed."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _own_names() -> frozenset[str]:
    server = settings.APFLOW.server
    public = urlsplit(server.public_url or "").hostname
    return frozenset(
        {"localhost", "testserver", socket.gethostname().lower(), public or "", *map(str.lower, server.allowed_hosts)}
        - {""}
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
