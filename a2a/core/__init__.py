"""Shared by all interfaces: the JSON-RPC envelope, errors, HTTP, parsing, and tasks as A2A objects.

Each exception has one row in `errors`, with its code on every interface. Any other is an internal error: the
log has its traceback, and the client a reply without it.
"""
