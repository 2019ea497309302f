"""The gRPC server for A2A, next to a web process, if `a2a.grpc_port` is set."""

from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

STOP_SECONDS = 5.0


class GrpcServer:
    """The gRPC server of a web process. gRPC is an optional extra, so it is imported only if used."""

    def __init__(self) -> None:
        self._server: Any = None

    async def open(self) -> None:
        """Start the server, if a port is set.

        Raises ImproperlyConfigured if the port cannot be opened.
        """
        port = settings.APFLOW.a2a.grpc_port
        if port is None:
            return
        try:
            self._server = await import_module("a2a.protocol.bindings.grpc_server").start()
        except (OSError, RuntimeError) as error:
            raise ImproperlyConfigured(f"a2a.grpc_port: cannot serve on port {port}: {error}") from error

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
