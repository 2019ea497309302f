"""Errors in the format of A2A 1.0 (sections 9.5, 10.6 and 11.6).

Their codes are in `a2a.core.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from a2a.core import jsonrpc
from a2a.core.errors import Kind, failure_of, kind_of, rule_of
from tasks.rules import exceptions
from tasks.rules.strict_json import Json

DOMAIN: Final = "a2a-protocol.org"
TYPES: Final = "type.googleapis.com/google.rpc"
OF_TREES: Final = (
    exceptions.CircularDependency,
    exceptions.ExecutorNotFound,
    exceptions.InvalidDependency,
    exceptions.InvalidParent,
    exceptions.InvalidTree,
)
"""Errors of the tasks in a request, reported for the field `tasks`."""


REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        jsonrpc.PARSE_ERROR: "PARSE_ERROR",
        jsonrpc.INVALID_REQUEST: "INVALID_REQUEST",
        jsonrpc.METHOD_NOT_FOUND: "METHOD_NOT_FOUND",
        jsonrpc.INVALID_PARAMS: "INVALID_PARAMS",
        jsonrpc.INTERNAL_ERROR: "INTERNAL_ERROR",
    }
)
"""The reasons of errors that JSON-RPC defines. HTTP+JSON and gRPC do not send its codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An error as google.rpc.Status. `details` are messages of `google.rpc`, in JSON."""

    kind: Kind
    message: str
    details: list[Json]

    @property
    def details_with_reason(self) -> list[Json]:
        """The details for the bindings without codes of JSON-RPC: clients take the kind of error from an ErrorInfo."""
        if self.kind.reason is not None or self.kind.code not in REASONS:
            return self.details
        return [_info(REASONS[self.kind.code], {}), *self.details]


def status_of(error: Exception) -> Status:
    """Return the error in the format of A2A.

    Unknown errors are logged; the client gets only an `error_id`.
    """
    kind = kind_of(error)
    if kind.code == jsonrpc.INTERNAL_ERROR:
        failure = failure_of(error)
        info = {"@type": f"{TYPES}.RequestInfo", "requestId": failure.data["error_id"]}
        return Status(kind=kind, message=failure.message, details=[info])
    message = getattr(error, "message", None) or str(error)
    return Status(kind=kind, message=message, details=list(_details(error, kind)))


def as_failure(error: Exception, *, call_id: jsonrpc.Id = None) -> jsonrpc.Failure:
    """Return the error for the JSON-RPC binding (section 9.5)."""
    status, rule = status_of(error), rule_of(error)
    return jsonrpc.Failure(
        code=status.kind.code,
        message=status.message,
        data=status.details or None,
        id=call_id,
        http_status=rule.http_status if rule.on_transport else 200,
    )


def as_http(error: Exception) -> tuple[int, Json]:
    """Return the HTTP status and body for the HTTP+JSON binding (section 11.6, AIP-193)."""
    status = status_of(error)
    body = {
        "code": status.kind.http_status,
        "status": status.kind.status,
        "message": status.message,
        "details": status.details_with_reason,
    }
    return status.kind.http_status, {"error": body}


def _details(error: Exception, kind: Kind) -> Sequence[Json]:
    if kind.reason is not None:
        data = getattr(error, "data", None)
        names = {"task_id": "taskId", "config_id": "configId", "first_seq": "firstSeq", "last_seq": "lastSeq"}
        known = data.items() if isinstance(data, dict) else ()
        return [_info(kind.reason, {names[name]: str(value) for name, value in known if name in names})]
    if isinstance(error, exceptions.LimitReached) and error.data:
        return [{"@type": f"{TYPES}.RetryInfo", "retryDelay": f"{error.data['retry_after_seconds']}s"}]
    problems: Sequence[tuple[str, str]] = []
    match error:
        case exceptions.InvalidParams():
            problems = error.problems
        case exceptions.ExecutorNotFound() if error.data["task"] is None:
            problems = [("skill", error.message)]
        case _ if isinstance(error, OF_TREES):
            problems = [("tasks", error.message)]
    violations = [{"field": field, "description": reason} for field, reason in problems]
    return [{"@type": f"{TYPES}.BadRequest", "fieldViolations": violations}] if violations else []


def _info(reason: str, metadata: Mapping[str, str]) -> Json:
    return {"@type": f"{TYPES}.ErrorInfo", "reason": reason, "domain": DOMAIN, "metadata": dict(metadata)}
