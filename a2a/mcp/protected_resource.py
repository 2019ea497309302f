"""The place where clients of MCP get a token: the metadata of a protected resource (RFC 9728)."""

from typing import Final
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from a2a.core.http import json_response, public_url, refusal, require_method
from tasks.rules.strict_json import Json

WELL_KNOWN: Final = ".well-known/oauth-protected-resource"
NAME: Final = "aipartnerupflow"


async def metadata(request: HttpRequest, resource: str = "") -> HttpResponseBase:
    """`GET /.well-known/oauth-protected-resource[/mcp]`. Public; 404 unless the operator has named authorization servers."""
    try:
        require_method(request, "GET", "HEAD")
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    if not is_offered():
        return HttpResponse(status=404)
    shown: Json = {
        "resource": (public_url(request) + resource).rstrip("/"),
        "authorization_servers": list(settings.APFLOW.mcp.authorization_servers),
        "bearer_methods_supported": ["header"],
        "resource_name": NAME,
    }
    return json_response(shown)


def is_offered() -> bool:
    """Return whether a token is needed, and authorization servers issue it."""
    return bool(settings.APFLOW.auth.is_on and settings.APFLOW.mcp.authorization_servers)


def challenge(request: HttpRequest) -> str:
    """Return the header `WWW-Authenticate` of a request without a valid token."""
    url = f"{public_url(request)}{WELL_KNOWN}/mcp"
    return f'Bearer resource_metadata="{quote(url, safe=":/[]%")}"' if is_offered() else "Bearer"
