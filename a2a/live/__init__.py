"""Streams: events as SSE frames, limits on open streams, the filter of a WebSocket."""
