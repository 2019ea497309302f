"""The steps that every HTTP request passes: host checks, request id, log line, span, and the middleware of its kind."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast
from uuid import uuid4

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware
from django.utils.module_loading import import_string

from a2a.core.metrics import request_facts
from accounts.audit import ADDRESS
from apflow_site.edge.hosts import foreign, is_page
from apflow_site.logs import log_request
from tasks.telemetry.tracing import span, with_log_ids

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

REQUEST_ID_HEADER: Final = "X-Request-Id"
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request ids that are accepted from a proxy; a request with any other id gets a new one."""


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
        sent = request.headers.get(REQUEST_ID_HEADER, "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else str(uuid4())
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
                    log_request(request, response, route=route, seconds=seconds, noted=noted)
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
