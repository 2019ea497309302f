"""The messages that answer a request of MCP: notifications, and then one result or an error.

Section names refer to the specification of 2026-07-28.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import orjson

from a2a.core import jsonrpc
from a2a.core.errors import failure_of, rule_of
from a2a.core.exceptions import RequestRefused
from a2a.core.jsonrpc import VERSION, Failure, Id
from tasks.rules.strict_json import Json

COMPLETE: Final = "complete"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message of the server before the result, in the stream of the request."""

    method: str
    params: Json
    event_id: str | None = None

    def to_json(self) -> Json:
        return {"jsonrpc": VERSION, "method": self.method, "params": self.params}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of the server to a client of an earlier era, in the stream of the client's request."""

    id: str
    method: str
    params: Json
    event_id: str | None = None

    def to_json(self) -> Json:
        return {"jsonrpc": VERSION, "id": self.id, "method": self.method, "params": self.params}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a request. `kind` is its `resultType`, which only clients of 2026-07-28 get.

    `headers` are sent with a result that is not in a stream.
    """

    value: Json
    kind: str = COMPLETE
    headers: Mapping[str, str] = field(default_factory=dict)
    event_id: str | None = None

    def of_era(self, *, is_modern: bool) -> Json:
        return {"resultType": self.kind} | self.value if is_modern else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The first event of a stream, without a message: a client that loses its connection can resume from its id."""

    event_id: str | None


Message = Beginning | Notification | Request | Result
Messages = AsyncGenerator[Message]
"""Any notifications and requests, and the result as the last message. A call that the client has cancelled has no result.

A message with an `event_id` is the last one of its event: a stream that is resumed goes on after it.
"""


def text(value: Any) -> Json:
    """Return a block of content: the text, or a value as JSON."""
    return {"type": "text", "text": value if isinstance(value, str) else orjson.dumps(value).decode()}


def tool_result(structured: Json, *blocks: Json, is_error: bool = False) -> Json:
    """Return the result of a tool: data for programs, and blocks for models; by default the same data as text."""
    found: Json = {"content": [*blocks] or [text(structured)], "structuredContent": structured}
    return found | {"isError": True} if is_error else found


def tool_error(message: str) -> Json:
    """Return the result of a tool that could not do its work: the model reads the message, and may correct the call."""
    return {"content": [text(message)], "isError": True}


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
