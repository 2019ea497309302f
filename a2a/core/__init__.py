"""Shared by all interfaces: the JSON-RPC envelope, errors, HTTP, parsing, and tasks as A2A objects."""
