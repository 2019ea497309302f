"""A2A's own errors in one table: the exception, its JSON-RPC code, its HTTP status, and its names in both (A2A 1.0, section 5.4).

Whatever the domain refuses about a request is an invalid parameter here; what is not in the table goes the way of all other errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from a2a.core import jsonrpc
from a2a.core.errors import BodyTooLarge, UnknownMethod, UnsupportedMediaType, WrongHttpMethod, failure_of, rule_of
from accounts.auth import AuthenticationFailed
from tasks.rules import exceptions
from tasks.rules.strict_json import MalformedJson

Json = dict[str, Any]
DOMAIN: Final = "a2a-protocol.org"
TYPES: Final = "type.googleapis.com/google.rpc"


class ProtocolError(Exception):
    """A request that A2A has an error of its own for."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class TaskNotCancelable(ProtocolError):
    """The task is over."""


class PushNotificationNotSupported(ProtocolError):
    """This server sends no push notifications."""


class UnsupportedOperation(ProtocolError):
    """The server, or the state of the task, does not allow it."""


class ContentTypeNotSupported(ProtocolError):
    """A part has a media type that no skill takes."""


class ExtendedCardNotConfigured(ProtocolError):
    """There is no extended card."""


class ExtensionSupportRequired(ProtocolError):
    """The client does not support an extension that it must."""


class VersionNotSupported(ProtocolError):
    """The client asks for a version of A2A that is not spoken here."""


class ConfigNotFound(exceptions.TaskNotFound):
    """Push notification config not found."""

    def __init__(self, config_id: str) -> None:
        super().__init__(config_id)
        self.message = f"Push notification config '{config_id}' not found. List those of the task to see their ids."
        self.data = {"config_id": config_id}


@dataclass(frozen=True, slots=True)
class Kind:
    """`status` is the name of the canonical code (AIP-193), `reason` that of the error, where A2A has one."""

    code: int
    http_status: int
    status: str
    reason: str | None = None


INVALID: Final = Kind(jsonrpc.INVALID_PARAMS, 400, "INVALID_ARGUMENT")
KINDS: Mapping[type[Exception], Kind] = MappingProxyType(
    {
        exceptions.TaskNotFound: Kind(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND"),
        TaskNotCancelable: Kind(-32002, 409, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE"),
        PushNotificationNotSupported: Kind(-32003, 400, "UNIMPLEMENTED", "PUSH_NOTIFICATION_NOT_SUPPORTED"),
        UnsupportedOperation: Kind(-32004, 400, "UNIMPLEMENTED", "UNSUPPORTED_OPERATION"),
        exceptions.StatusConflict: Kind(-32004, 400, "UNIMPLEMENTED", "UNSUPPORTED_OPERATION"),
        exceptions.AlreadyExecuting: Kind(-32004, 400, "UNIMPLEMENTED", "UNSUPPORTED_OPERATION"),
        ContentTypeNotSupported: Kind(-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
        UnsupportedMediaType: Kind(-32005, 415, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
        ExtendedCardNotConfigured: Kind(-32007, 400, "FAILED_PRECONDITION", "EXTENDED_AGENT_CARD_NOT_CONFIGURED"),
        ExtensionSupportRequired: Kind(-32008, 400, "FAILED_PRECONDITION", "EXTENSION_SUPPORT_REQUIRED"),
        VersionNotSupported: Kind(-32009, 400, "UNIMPLEMENTED", "VERSION_NOT_SUPPORTED"),
        MalformedJson: Kind(jsonrpc.PARSE_ERROR, 400, "INVALID_ARGUMENT"),
        UnknownMethod: Kind(jsonrpc.METHOD_NOT_FOUND, 404, "NOT_FOUND"),
        WrongHttpMethod: Kind(jsonrpc.INVALID_REQUEST, 405, "UNIMPLEMENTED"),
        BodyTooLarge: Kind(jsonrpc.INVALID_REQUEST, 413, "INVALID_ARGUMENT"),
        exceptions.LimitReached: Kind(-32029, 429, "RESOURCE_EXHAUSTED"),
        AuthenticationFailed: Kind(-32004, 401, "UNAUTHENTICATED"),
        exceptions.RoleTooLow: Kind(-32004, 403, "PERMISSION_DENIED"),
        exceptions.TasksError: INVALID,  # all others that the domain has against a request
    }
)
OF_TREES: Final = (
    exceptions.CircularDependency,
    exceptions.ExecutorNotFound,
    exceptions.InvalidDependency,
    exceptions.InvalidParent,
    exceptions.InvalidTree,
)
"""What the tasks of a request may have against each other, or against this server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An error as a client may see it. `details` are messages of `google.rpc`, in JSON."""

    kind: Kind
    message: str
    details: list[Json]


def told(error: Exception) -> Told:
    """The error as A2A tells it. An unknown one goes to the log, and only its `error_id` to the client."""
    kind = next((KINDS[each] for each in type(error).__mro__ if each in KINDS), None)
    if kind is None:
        return _internal(error)
    message = getattr(error, "message", None) or str(error)
    return Told(kind=kind, message=message, details=list(_details(error, kind)))


def as_failure(error: Exception, *, call_id: jsonrpc.Id = None) -> jsonrpc.Failure:
    """For the JSON-RPC binding (section 9.5)."""
    it, rule = told(error), rule_of(error)
    status = rule.http_status if rule.on_transport else 200
    return jsonrpc.Failure(
        code=it.kind.code, message=it.message, data=it.details or None, id=call_id, http_status=status
    )


def as_http(error: Exception) -> tuple[int, Json]:
    """For the HTTP+JSON binding: the status and the body (section 11.6, AIP-193)."""
    it = told(error)
    body = {
        "code": it.kind.http_status,
        "status": it.kind.status,
        "message": it.message,
        "details": it.details,
    }
    return it.kind.http_status, {"error": body}


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


def _internal(error: Exception) -> Told:
    failure = failure_of(error)
    rule = rule_of(error)
    status = "UNAVAILABLE" if rule.http_status == 503 else "INTERNAL"
    info = {
        "@type": f"{TYPES}.RequestInfo",
        "requestId": failure.data["error_id"],
    }
    return Told(kind=Kind(failure.code, rule.http_status, status), message=failure.message, details=[info])
