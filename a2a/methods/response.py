"""The base of the types of results and of their parts."""

from msgspec import Struct


class Response(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base class of all responses. A field with a default may be absent."""
