"""The web pages that may call the interfaces for programs: the server's own, and those of `server.allowed_origins`.

A page of another origin never reaches the dashboard, the admin or a form.
"""

import re
from typing import Final

from django.conf import settings

from apflow_site.config import Config

THIS_MACHINE: Final = ("http://localhost:*", "http://127.0.0.1:*")
"""Allowed without a setting where only this machine reaches a server without authentication."""
ALLOWED_HEADERS: Final = (
    *("accept", "authorization", "content-type", "a2a-extensions", "a2a-version", "idempotency-key", "last-event-id"),
    *("mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "traceparent", "x-api-key"),
    *("x-llm-api-key", "x-request-id"),
)
EXPOSED_HEADERS: Final = ("a2a-extensions", "mcp-session-id", "retry-after", "www-authenticate", "x-request-id")


def origin_patterns(config: Config) -> list[str]:
    """Return regular expressions, for `re.match`, of the other origins whose pages may call the server."""
    origins = config.server.allowed_origins
    if origins is None:
        origins = THIS_MACHINE if config.server.is_local and not config.auth.is_on else ()
    return [_pattern(origin) for origin in origins]


def _pattern(origin: str) -> str:
    if origin == "*":
        return r"^.+\Z"
    name, star, _ = origin.partition(":*")
    return rf"^{re.escape(name)}{'(:[0-9]{1,5})?' if star else ''}\Z"


def is_own_origin(origin: str, *, host: str) -> bool:
    """Return whether a page of this origin came from the host to which it sends the request."""
    return origin in (f"http://{host}", f"https://{host}")


def is_allowed_origin(origin: str) -> bool:
    """Return whether pages of this other origin may call the interfaces for programs."""
    return any(re.match(pattern, origin) for pattern in settings.CORS_ALLOWED_ORIGIN_REGEXES)
