"""The first layer of HTTP requests."""
