"""Errors as A2A shows them: the codes are in `a2a.core.errors`, the details here (A2A 1.0, sections 9.5, 10.6 and 11.6)."""

from collections.abc import Sequence
from dataclasses import dataclass
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
"""What the tasks of a request may have against each other, or against this server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An error as a client may see it: google.rpc.Status. `details` are messages of `google.rpc`, in JSON."""

    kind: Kind
    message: str
    details: list[Json]


def status_of(error: Exception) -> Status:
    """The error as A2A shows it. An unknown one goes to the log, and only its `error_id` to the client."""
    kind = kind_of(error)
    if kind.code == jsonrpc.INTERNAL_ERROR:
        return _internal(error, kind)
    message = getattr(error, "message", None) or str(error)
    return Status(kind=kind, message=message, details=list(_details(error, kind)))


def as_failure(error: Exception, *, call_id: jsonrpc.Id = None) -> jsonrpc.Failure:
    """For the JSON-RPC binding (section 9.5)."""
    status, rule = status_of(error), rule_of(error)
    return jsonrpc.Failure(
        code=status.kind.code,
        message=status.message,
        data=status.details or None,
        id=call_id,
        http_status=rule.http_status if rule.on_transport else 200,
    )


def as_http(error: Exception) -> tuple[int, Json]:
    """For the HTTP+JSON binding: the status and the body (section 11.6, AIP-193)."""
    status = status_of(error)
    body = {
        "code": status.kind.http_status,
        "status": status.kind.status,
        "message": status.message,
        "details": status.details,
    }
    return status.kind.http_status, {"error": body}


def _details(error: Exception, kind: Kind) -> Sequence[Json]:
    if kind.reason is not None:
        return [{"@type": f"{TYPES}.ErrorInfo", "reason": kind.reason, "domain": DOMAIN, "metadata": _metadata(error)}]
    if isinstance(error, exceptions.LimitReached) and error.data:
        return [{"@type": f"{TYPES}.RetryInfo", "retryDelay": f"{error.data['retry_after_seconds']}s"}]
    violations = [{"field": field, "description": reason} for field, reason in _problems(error)]
    return [{"@type": f"{TYPES}.BadRequest", "fieldViolations": violations}] if violations else []


def _problems(error: Exception) -> Sequence[tuple[str, str]]:
    """The fields that are wrong, as far as they are known, and why."""
    match error:
        case exceptions.InvalidParams():
            return error.problems
        case exceptions.ExecutorNotFound() if error.data["task"] is None:
            return [("skill", error.message)]
        case _ if isinstance(error, OF_TREES):
            return [("tasks", error.message)]
    return []


def _metadata(error: Exception) -> dict[str, str]:
    """What the domain says beside its message; the values of ErrorInfo's metadata are text."""
    data = getattr(error, "data", None)
    names = {"task_id": "taskId", "config_id": "configId"}
    return {names[name]: str(value) for name, value in data.items() if name in names} if isinstance(data, dict) else {}


def _internal(error: Exception, kind: Kind) -> Status:
    failure = failure_of(error)
    info = {"@type": f"{TYPES}.RequestInfo", "requestId": failure.data["error_id"]}
    return Status(kind=kind, message=failure.message, details=[info])
