"""Limits on connections and headers, for uvicorn, which has none.

Uvicorn reads a header of any size, waits for its end forever, and has no hook for limits. Its
lifespan knows its configuration, which it reads for every new connection, so the limits apply
however uvicorn was started: by `serve`, by its own command, or by Gunicorn.
"""

import inspect
import resource
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from apflow_site.uvicorn_limits.connections import trusted_proxies
from apflow_site.uvicorn_limits.http import LimitedHttp, LimitedWebSocket

OPEN_FILES: Final = 65_536
"""Enough for all connections of a web process. The usual soft limit, 1,024, is not."""


def limit_connections(receive: Any) -> None:
    """Apply our limits to the uvicorn that called the lifespan with this `receive`.

    Raises ImproperlyConfigured if it was not uvicorn.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    config = _config(receive)
    config.http_protocol_class = LimitedHttp
    config.ws_protocol_class = LimitedWebSocket
    if isinstance(config.loaded_app, ProxyHeadersMiddleware):
        # Uvicorn's own default is to believe every client on loopback.
        config.loaded_app = ProxyHeadersMiddleware(config.loaded_app.app, trusted_hosts=trusted_proxies())
    config.ws_max_size = settings.APFLOW.limits.body_bytes


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
