"""Event streams: SSE frames, limits on open streams, and the filter of a WebSocket."""
