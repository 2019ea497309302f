"""The headers of A2A, for both of its HTTP bindings."""

from collections.abc import Mapping
from typing import Final

VERSION_HEADER: Final = "A2A-Version"
EXTENSIONS_HEADER: Final = "A2A-Extensions"
OLD_EXTENSIONS_HEADER: Final = f"X-{EXTENSIONS_HEADER}"
"""The name of the header in A2A 0.3."""


def requested_extensions(headers: Mapping[str, str]) -> list[str]:
    """The URIs of the extensions that the client requests."""
    listed = headers.get(EXTENSIONS_HEADER) or headers.get(OLD_EXTENSIONS_HEADER) or ""
    return [uri for part in listed.split(",") if (uri := part.strip())]
