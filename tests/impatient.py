"""Shortens what the server takes its time for. A server loads it as a module of executors, of which it has none."""

from a2a.endpoints import consumers
from a2a.live import stream_limits

stream_limits.CHECK_SECONDS = 0.2
consumers.AUTH_SECONDS = 0.5
