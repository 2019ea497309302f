"""Lets nothing but a change end an open stream. A server loads it as a module of executors, of which it has none."""

from a2a.live import stream_limits

stream_limits.CHECK_SECONDS = 24 * 3600.0
