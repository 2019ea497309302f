"""Endpoints: HTTP views, the WebSocket consumer, the dashboard's streams, the API documentation."""
