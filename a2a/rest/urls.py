"""URLs of the REST API, matched before percent-decoding, so that an id may contain a slash (`%2F`)."""

from typing import Any
from urllib.parse import quote, unquote_to_bytes

from django.http import HttpRequest, HttpResponseBase
from django.urls import path, register_converter, resolve
from django.views.decorators.csrf import csrf_exempt

from a2a.rest.operations import ROUTES
from a2a.rest.views import Endpoint


class Segment:
    """A percent-encoded path segment. A segment that is not UTF-8 does not match."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote_to_bytes(value).decode()

    def to_url(self, value: str) -> str:
        return quote(value, safe="")


register_converter(Segment, "segment")
urlpatterns = [
    path(
        f"api/{url.replace('<', '<segment:')}",
        Endpoint.as_view({method.lower(): "carry_out" for method in operations}, operations=operations),
    )
    for url, operations in ROUTES.items()
]


@csrf_exempt
async def api(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """Dispatch requests under `/api/`. Raises Resolver404 for an unknown URL."""
    match = resolve(_as_sent(request), __name__)
    response: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
    return response


def _as_sent(request: HttpRequest) -> str:
    """Return the path before percent-decoding, with a trailing slash.

    Django itself matches the decoded path.
    """
    scope = getattr(request, "scope", {})  # ASGI only; other requests have only the decoded path
    raw = scope.get("raw_path", b"").decode("ascii", "replace") or quote(request.path)
    sent = raw.removeprefix(quote(scope.get("root_path", "")))
    return sent if sent.endswith("/") else f"{sent}/"
