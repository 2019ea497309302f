"""A2A over gRPC beside a web process, where `a2a.grpc_port` asks for it."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

STOP_SECONDS = 5.0


class GrpcDoor:
    """Open while the web process serves. gRPC is an extra, so it is imported by those only who open the door."""

    def __init__(self) -> None:
        self._server: Any = None

    async def open(self) -> None:
        """Raises ImproperlyConfigured."""
        port = settings.APFLOW.a2a.grpc_port
        if port is None:
            return
        if find_spec("grpc") is None:
            raise ImproperlyConfigured(
                "a2a.grpc_port: gRPC is missing. Install it with: pip install 'aipartnerupflow[grpc]'"
            )
        try:
            self._server = await import_module("a2a.protocol.bindings.grpc_server").start()
        except (OSError, RuntimeError) as error:
            raise ImproperlyConfigured(f"a2a.grpc_port: cannot serve on port {port}: {error}") from error

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
