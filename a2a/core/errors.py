"""Every error on the wire, in one table: the exception, its JSON-RPC code, its HTTP status, its name in REST.

Whatever is not in the table is a bug: its text goes to the log, and only an `error_id` to the client.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from django.db import InterfaceError, OperationalError

from a2a.core import jsonrpc
from a2a.core.jsonrpc import Failure, Id
from accounts.auth import AuthenticationFailed
from apflow_db.connections import is_disk_full
from tasks.ids import new_id
from tasks.rules import exceptions
from tasks.rules.strict_json import MalformedJson

RETRY_AFTER_SECONDS = 2

log = logging.getLogger(__name__)


class RequestRefused(Exception):
    """The HTTP request does not carry a JSON-RPC request."""

    def __init__(self, message: str, *, data: Any = None) -> None:
        self.message = message
        self.data = data
        super().__init__(message)


class BodyTooLarge(RequestRefused):
    """The body has more bytes than `limits.body_bytes`."""


class UnsupportedMediaType(RequestRefused):
    """The body does not say that it is JSON."""


class WrongHttpMethod(RequestRefused):
    """The address answers other HTTP methods."""

    def __init__(self, message: str, *, methods: Sequence[str]) -> None:
        self.methods = methods
        super().__init__(message)


class UnknownMethod(RequestRefused):
    """No JSON-RPC method has this name."""


class NotRunYet(RequestRefused):
    """The task has no run, so there are no events to follow."""


class EventsPruned(RequestRefused):
    """What the client wants to go on from is not kept any more."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`on_transport`: the HTTP status counts on the JSON-RPC addresses too, which answer other errors with 200.

    400 is for what is wrong in itself, 422 for tasks that are well formed and do not fit each other or this server, 409 for what
    the state of a task forbids.
    """

    code: int
    http_status: int
    name: str
    on_transport: bool = False


RULES: Mapping[type[Exception], Rule] = MappingProxyType(
    {
        MalformedJson: Rule(jsonrpc.PARSE_ERROR, 400, "invalid_json", on_transport=True),
        AuthenticationFailed: Rule(-32004, 401, "authentication_required", on_transport=True),
        WrongHttpMethod: Rule(jsonrpc.INVALID_REQUEST, 405, "method_not_allowed", on_transport=True),
        BodyTooLarge: Rule(jsonrpc.INVALID_REQUEST, 413, "too_large", on_transport=True),
        UnsupportedMediaType: Rule(jsonrpc.INVALID_REQUEST, 415, "unsupported_media_type", on_transport=True),
        OperationalError: Rule(jsonrpc.INTERNAL_ERROR, 503, "database_unavailable", on_transport=True),
        InterfaceError: Rule(jsonrpc.INTERNAL_ERROR, 503, "database_unavailable", on_transport=True),
        UnknownMethod: Rule(jsonrpc.METHOD_NOT_FOUND, 404, "method_not_found"),
        NotRunYet: Rule(-32001, 404, "not_run_yet"),
        EventsPruned: Rule(-32001, 410, "events_pruned"),
        exceptions.InvalidParams: Rule(jsonrpc.INVALID_PARAMS, 400, "invalid_params"),
        exceptions.TaskNotFound: Rule(-32001, 404, "task_not_found"),
        exceptions.CircularDependency: Rule(-32002, 422, "circular_dependency"),
        exceptions.ExecutorNotFound: Rule(-32003, 422, "executor_not_found"),
        exceptions.RoleTooLow: Rule(-32004, 403, "role_too_low", on_transport=True),
        exceptions.SchemaMismatch: Rule(-32005, 422, "schema_mismatch"),
        exceptions.StatusConflict: Rule(-32006, 409, "status_conflict"),
        exceptions.AlreadyExecuting: Rule(-32008, 409, "already_executing"),
        exceptions.CannotDelete: Rule(-32009, 409, "cannot_delete"),
        exceptions.InvalidParent: Rule(-32010, 422, "invalid_parent"),
        exceptions.InvalidDependency: Rule(-32011, 422, "invalid_dependency"),
        exceptions.InvalidTree: Rule(-32012, 422, "invalid_tree"),
        exceptions.GenerationFailed: Rule(-32020, 422, "generation_failed"),
        exceptions.LimitReached: Rule(-32029, 429, "limit_reached"),
    }
)
_BUG = Rule(jsonrpc.INTERNAL_ERROR, 500, "internal")


def rule_of(error: Exception) -> Rule:
    return next((RULES[kind] for kind in type(error).__mro__ if kind in RULES), _BUG)


def failure_of(error: Exception, *, call_id: Id = None) -> Failure:
    """The error as a client may see it."""
    rule = rule_of(error)
    message, data = _words(error)
    status = rule.http_status if rule.on_transport else 200
    return Failure(code=rule.code, message=message, data=data, id=call_id, http_status=status)


def as_rpc(error: Exception) -> dict[str, Any]:
    """An error outside of any call, as the JSON-RPC addresses answer it."""
    return failure_of(error).to_json()


def as_rest(error: Exception) -> dict[str, Any]:
    """An error as REST answers it: by name."""
    message, data = _words(error)
    told = {"code": rule_of(error).name, "message": message}
    return {"error": told if data is None else told | {"data": data}}


def _words(error: Exception) -> tuple[str, Any]:
    return _logged(error) if rule_of(error).code == jsonrpc.INTERNAL_ERROR else _told(error)


def _told(error: Exception) -> tuple[str, Any]:
    return getattr(error, "message", None) or str(error), getattr(error, "data", None)


def _logged(error: Exception) -> tuple[str, Any]:
    error_id = new_id()
    log.error("%s: internal error", error_id, exc_info=error, extra={"event": "request.error", "error_id": error_id})
    if rule_of(error) is _BUG:
        return "Internal error. The server's log has more under this error_id.", {"error_id": error_id}
    reason = "has no room on its disk, and nothing was stored" if is_disk_full(error) else "does not answer"
    return (
        f"The database {reason}. Try again in {RETRY_AFTER_SECONDS} seconds.",
        {"error_id": error_id, "retry_after_seconds": RETRY_AFTER_SECONDS},
    )
