"""The errors of MCP, and how any error becomes the reply to a request.

Section names refer to the specification of 2026-07-28.
"""

from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from a2a.core import jsonrpc
from a2a.core.errors import failure_of, rule_of
from a2a.core.exceptions import RequestRefused
from a2a.core.jsonrpc import Failure, Id

HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
SESSION_NOT_FOUND: Final = -32001
"""Up to 2025-11-25; the code of the official libraries."""
STATUS_OF_CODE: Final = MappingProxyType(
    {
        jsonrpc.PARSE_ERROR: 400,
        jsonrpc.INVALID_REQUEST: 400,
        jsonrpc.INVALID_PARAMS: 400,
        jsonrpc.METHOD_NOT_FOUND: 404,
        HEADER_MISMATCH: 400,
        MISSING_CAPABILITY: 400,
        UNSUPPORTED_VERSION: 400,
        SESSION_NOT_FOUND: 404,
    }
)
"""The HTTP status of a failed request of 2026-07-28 (Streamable HTTP, "Protocol Errors")."""


class McpError(RequestRefused):
    """A request that MCP refuses, with the code of the error."""

    def __init__(self, code: int, message: str, *, data: Any = None) -> None:
        self.code = code
        super().__init__(message, data=data)


def missing_capability(**capabilities: Any) -> McpError:
    """Return the error for a request that needs a capability which the client has not declared."""
    named = ", ".join(capabilities.get("extensions") or capabilities)
    message = f"This request needs a client with the capability {named}. Declare it in clientCapabilities."
    return McpError(MISSING_CAPABILITY, message, data={"requiredCapabilities": capabilities})


def failure(error: Exception, *, call_id: Id = None, is_modern: bool) -> Failure:
    """Return the reply to a request that failed.

    Errors in calls of older clients have the status 200: their libraries take 404 for the end of a session.
    """
    if isinstance(error, McpError):
        status = STATUS_OF_CODE.get(error.code, 200)
        return Failure(code=error.code, message=error.message, data=error.data, id=call_id, http_status=status)
    found = failure_of(error, call_id=call_id)
    if rule_of(error).on_transport or not is_modern:
        return found
    return replace(found, http_status=STATUS_OF_CODE.get(found.code, 200))
