"""The addresses of the API, matched as they were sent: so an id may hold any character, percent-encoded, a slash too."""

from typing import Any
from urllib.parse import quote, unquote_to_bytes

from django.http import HttpRequest, HttpResponseBase
from django.urls import path, register_converter, resolve
from django.views.decorators.csrf import csrf_exempt

from a2a.rest.routes import ROUTES, STREAMS
from a2a.rest.views import Endpoint, Events


class Segment:
    """What stands between two slashes, percent-encoded. Text that is not UTF-8 is nobody's id."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote_to_bytes(value).decode()

    def to_url(self, value: str) -> str:
        return quote(value, safe="")


register_converter(Segment, "segment")
urlpatterns = [
    path(f"api/{route}", view.as_view(dict.fromkeys(operations, "carry_out"), operations=operations))
    for view, routes in ((Endpoint, ROUTES), (Events, STREAMS))
    for route, operations in routes.items()
]


@csrf_exempt
def api(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """Everything under `/api/`. Raises Resolver404."""
    match = resolve(_as_sent(request), __name__)
    response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    return response


def _as_sent(request: HttpRequest) -> str:
    """The path before any decoding, with a slash at its end. Django itself matches the decoded one."""
    scope = getattr(request, "scope", {})  # ASGI; elsewhere nothing but the decoded path is known
    raw = scope.get("raw_path", b"").decode("ascii", "replace") or quote(request.path)
    sent = raw.removeprefix(quote(scope.get("root_path", "")))
    return sent if sent.endswith("/") else f"{sent}/"
