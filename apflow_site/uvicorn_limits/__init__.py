"""Limits on connections and headers, for uvicorn, which has none.

Uvicorn reads a header of any size, waits for its end forever, and has no hook for limits. Its
lifespan knows its configuration, which it reads for every new connection, so the limits apply
however uvicorn was started: by `serve`, by its own command, or by Gunicorn. A uvicorn without one
of the members that the limits need does not start.
"""

import asyncio
import inspect
import resource
from collections.abc import Iterable
from typing import Any, Final

import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from apflow_site.uvicorn_limits.connections import trusted_proxies
from apflow_site.uvicorn_limits.http import LimitedHttp, LimitedWebSocket

USED_OF_HTTP: Final = (
    *("client", "cycle", "flow", "handle_websocket_upgrade", "loop", "on_body", "on_header", "on_headers_complete"),
    *("on_message_begin", "on_message_complete", "on_url", "parser", "pipeline", "send_400_response", "transport"),
    "_unset_keepalive_if_required",
)
USED_OF_WEBSOCKETS: Final = tuple(
    "close_sent config conn handle_connect handshake_complete handshake_initiated transport".split()
)
"""The members of uvicorn's protocols that it does not document, and that ours override or read."""
OPEN_FILES: Final = 65_536
"""Enough for all connections of a web process. The usual soft limit, 1,024, is not."""


def limit_connections(receive: Any) -> None:
    """Apply our limits to the uvicorn that called the lifespan with this `receive`.

    Raises ImproperlyConfigured if it was not uvicorn, or one that the limits do not know.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    config = _config(receive)
    require_members(LimitedHttp(config, ServerState(), {}), USED_OF_HTTP)
    require_members(LimitedWebSocket(config, ServerState(), {}), USED_OF_WEBSOCKETS)
    config.http_protocol_class = LimitedHttp
    config.ws_protocol_class = LimitedWebSocket
    if isinstance(config.loaded_app, ProxyHeadersMiddleware):
        # Uvicorn's own default is to believe every client on loopback.
        config.loaded_app = ProxyHeadersMiddleware(config.loaded_app.app, trusted_hosts=trusted_proxies())
    config.ws_max_size = settings.APFLOW.limits.body_bytes


def require_members(protocol: asyncio.Protocol, names: Iterable[str]) -> None:
    """Raise ImproperlyConfigured if the protocol, or the class of uvicorn below it, has not one of these members."""
    made, kind = vars(protocol), super(type(protocol), protocol)
    if missing := [name for name in names if name not in made and not hasattr(kind, name)]:
        raise ImproperlyConfigured(
            f"uvicorn {uvicorn.__version__} has no {', '.join(missing)}, which the limits of headers and connections need. "
            "Install the version that requirements/serve.txt names."
        )


def _config(receive: Any) -> Config:
    """Return uvicorn's configuration. At the log level `trace` uvicorn wraps the method `receive` of its lifespan in a function."""
    if inspect.isfunction(receive):
        receive = inspect.getclosurevars(receive).nonlocals.get("receive")
    lifespan = getattr(receive, "__self__", None)
    if not isinstance(lifespan, LifespanOn):
        raise ImproperlyConfigured(
            "The web server is not uvicorn, so the limits of headers and connections cannot apply. "
            "Start it with: aipartnerupflow serve, or uvicorn aipartnerupflow.api.main:app"
        )
    return lifespan.config
