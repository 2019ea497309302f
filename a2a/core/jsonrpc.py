"""The envelope of JSON-RPC 2.0: parsed JSON to calls or failures, and replies back to JSON.

Pure. Section numbers refer to https://www.jsonrpc.org/specification.
"""

from dataclasses import dataclass
from typing import Any

Id = str | int | float | None
Params = dict[str, Any] | list[Any]

VERSION = "2.0"
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A well-formed request.

    A notification (section 4.1), a request of a batch without an id, gets no reply.
    """

    method: str
    params: Params
    id: Id = None
    is_notification: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply to a successful call (section 5)."""

    id: Id
    result: Any

    def to_json(self) -> dict[str, Any]:
        return {"jsonrpc": VERSION, "id": self.id, "result": self.result}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reply to a failed call (section 5.1).

    `http_status` applies if it is the whole HTTP response.
    """

    code: int
    message: str
    data: Any = None
    id: Id = None
    http_status: int = 200

    def to_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return {"jsonrpc": VERSION, "id": self.id, "error": error}


Request = Call | Failure
Response = Reply | Failure


def parse(value: Any, *, batch_limit: int) -> Request | list[Request]:
    """Parse one request, or a batch (section 6) of at most `batch_limit`.

    Invalid requests become `Failure`s. A single request is answered even without an id, which the
    specification would have us execute in silence: most clients that send none have forgotten it.
    """
    if not isinstance(value, list):
        return _parse_one(value, is_single=True)
    if not value:
        return _invalid("A batch must contain at least one request.")
    if len(value) > batch_limit:
        return _invalid(f"A batch may contain {batch_limit} requests, this one has {len(value)}. Split it.")
    return [_parse_one(item, is_single=False) for item in value]


def _parse_one(value: Any, *, is_single: bool) -> Request:
    if not isinstance(value, dict):
        return _invalid("A request must be a JSON object.")
    call_id = value.get("id")
    # orjson cannot return an integer id of more than 64 bits.
    is_whole = isinstance(call_id, int) and not isinstance(call_id, bool) and -(2**63) <= call_id < 2**64
    if not (is_whole or call_id is None or isinstance(call_id, str | float)):
        return _invalid("'id' must be a string, a number of at most 64 bits or null.")
    if value.get("jsonrpc") != VERSION:
        return _invalid('A request must contain "jsonrpc": "2.0".', call_id=call_id)
    if not isinstance(value.get("method"), str):
        return _invalid("'method' is required and must be a string.", call_id=call_id)
    if not isinstance(value.get("params", {}), dict | list):
        return _invalid("'params' must be an object or an array.", call_id=call_id)
    is_notification = not is_single and "id" not in value
    return Call(method=value["method"], params=value.get("params", {}), id=call_id, is_notification=is_notification)


def _invalid(message: str, *, call_id: Id = None) -> Failure:
    return Failure(code=INVALID_REQUEST, message=f"Invalid request: {message}", id=call_id)
