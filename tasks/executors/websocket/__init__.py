"""`websocket_executor`, and WebSocket connections that cannot reach the operator's own network."""
