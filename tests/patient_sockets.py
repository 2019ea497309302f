"""Gives a WebSocket more time to open and to log in. A server loads it as a module of executors."""

from a2a.endpoints import consumers

for limit in ("AUTH_SECONDS", "OPEN_SECONDS"):
    setattr(consumers, limit, 100.0)
