"""HTTP as all interfaces speak it: read a body, answer with JSON, refuse."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from a2a.core.errors import RETRY_AFTER_SECONDS, as_rpc, rule_of
from a2a.core.exceptions import BodyTooLarge, UnsupportedMediaType, WrongHttpMethod
from tasks.rules.exceptions import RETRY_SECONDS

STATUS_HEADERS: Final = MappingProxyType(
    {
        401: {"WWW-Authenticate": "Bearer"},
        429: {"Retry-After": str(RETRY_SECONDS)},
        503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
    }
)


def require_method(request: HttpRequest, *methods: str, also: Sequence[str] = ()) -> None:
    """Raises WrongHttpMethod. A method of `also` came here because its client takes no HTML."""
    if request.method in methods:
        return
    answered = [*also, *methods]
    reason = "with a page of HTML, which Accept leaves out" if request.method in also else f"not {request.method}"
    told = request.method if request.method in also else ", ".join(answered)
    raise WrongHttpMethod(f"{request.path} answers {told}, {reason}.", methods=answered)


def body_of(request: HttpRequest) -> bytes:
    """Raises UnsupportedMediaType or BodyTooLarge, the latter before a body that says its length is read."""
    kind = request.content_type or ""
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"Send Content-Type: application/json, not {kind or 'none'}.")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(f"Send the body as it is, not with Content-Encoding: {encoding}.")
    limit = settings.APFLOW.limits.body_bytes
    if int(request.headers.get("Content-Length") or 0) <= limit:
        body = request.read(limit + 1)
        if len(body) <= limit:
            return body
    raise BodyTooLarge(f"The body has more than {limit} bytes (limits.body_bytes).")


def public_url(request: HttpRequest) -> str:
    """Where clients reach this server, with a slash at the end: as configured, else as this one did."""
    url = settings.APFLOW.server.public_url or request.build_absolute_uri("/")
    return url.rstrip("/") + "/"


def json_response(value: Any, *, status: int = 200) -> HttpResponse:
    body = orjson.dumps(value)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Length": str(len(body))}
    headers |= STATUS_HEADERS.get(status, {})
    return HttpResponse(body, content_type="application/json", status=status, headers=headers)


def refusal(error: Exception, *, shape: Callable[[Exception], Any] = as_rpc) -> HttpResponse:
    """An error outside of any call: its HTTP status is the table's."""
    response = json_response(shape(error), status=rule_of(error).http_status)
    if isinstance(error, WrongHttpMethod):
        response["Allow"] = ", ".join(error.methods)
    return response
