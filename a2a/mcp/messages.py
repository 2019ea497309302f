"""The messages that answer a request of MCP: notifications, and then one result."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from a2a.core.jsonrpc import VERSION
from tasks.rules.strict_json import Json

COMPLETE: Final = "complete"


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
