"""HTTP helpers of all interfaces: read a body, reply with JSON, reject a request."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from a2a.core.errors import RETRY_AFTER_SECONDS, BodyTooLarge, UnsupportedMediaType, WrongHttpMethod, as_rpc, rule_of
from tasks.rules.exceptions import RETRY_SECONDS

STATUS_HEADERS: Final = MappingProxyType(
    {
        401: {"WWW-Authenticate": "Bearer"},
        429: {"Retry-After": str(RETRY_SECONDS)},
        503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
    }
)


def require_method(request: HttpRequest, *methods: str, also: Sequence[str] = ()) -> None:
    """Raises WrongHttpMethod unless the request has one of these methods.

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
    raise BodyTooLarge(f"The body has more than {limit} bytes (limits.body_bytes).")


def public_url(request: HttpRequest) -> str:
    """The base URL of this server, with a trailing slash: `server.public_url`, or as requested."""
    url = settings.APFLOW.server.public_url or request.build_absolute_uri("/")
    return url.rstrip("/") + "/"


def json_response(value: Any, *, status: int = 200) -> HttpResponse:
    body = orjson.dumps(value)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Length": str(len(body))}
    headers |= STATUS_HEADERS.get(status, {})
    return HttpResponse(body, content_type="application/json", status=status, headers=headers)


def refusal(error: Exception, *, shape: Callable[[Exception], Any] = as_rpc) -> HttpResponse:
    """The reply to a request that failed outside of a JSON-RPC call, with its HTTP status."""
    response = json_response(shape(error), status=rule_of(error).http_status)
    if isinstance(error, WrongHttpMethod):
        response["Allow"] = ", ".join(error.methods)
    return response
