"""Where requests arrive: HTTP views, WebSocket consumers, the dashboard's streams, the API documentation."""
