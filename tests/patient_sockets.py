"""Gives a WebSocket more time to open, to log in and to answer a ping. A server loads it as a module of executors."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from a2a.endpoints import consumers

for owner, name in ((consumers, "AUTH_SECONDS"), (consumers, "OPEN_SECONDS")):
    setattr(owner, name, 100.0)
setattr(WebSocketsSansIOProtocol, "start_keepalive", lambda _: None)  # noqa: B010  (mypy: it is a method)
