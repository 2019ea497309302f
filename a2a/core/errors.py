"""Every error that a client may get, in one table: the exception and its codes at each interface.

An exception that is not in the table is a bug: its text goes to the log, and only an `error_id` to the client.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from django.db import InterfaceError, OperationalError

from a2a.core import exceptions as wire
from a2a.core import jsonrpc
from a2a.core.jsonrpc import Failure, Id
from accounts.auth import AuthenticationFailed
from apflow_site.db.calls import TurnTooFar
from apflow_site.db.connections import is_disk_full
from apflow_site.db.file_gone import DatabaseFileGone
from tasks.ids import new_id
from tasks.rules import exceptions as domain
from tasks.rules.strict_json import MalformedJson

RETRY_AFTER_SECONDS = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """The codes of an error at our own interfaces: JSON-RPC, HTTP, and the name in REST.

    400: the request is malformed. 422: the tasks are well-formed, but conflict with each other or
    with this server. 409: the state of a task does not allow the request. `on_transport`: the
    JSON-RPC endpoints use the HTTP status, too; for other errors they return 200.
    """

    code: int
    http_status: int
    name: str
    on_transport: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """The codes of an error in A2A 1.0 (section 5.4): JSON-RPC, HTTP and gRPC.

    `status` is the name of the canonical code (AIP-193), as in gRPC. `reason` is set for errors
    that A2A defines.
    """

    code: int
    http_status: int
    status: str
    reason: str | None = None


INVALID: Final = Kind(jsonrpc.INVALID_PARAMS, 400, "INVALID_ARGUMENT")
UNAVAILABLE: Final = Kind(jsonrpc.INTERNAL_ERROR, 503, "UNAVAILABLE")
UNSUPPORTED: Final = Kind(-32004, 400, "UNIMPLEMENTED", "UNSUPPORTED_OPERATION")
DATABASE: Final = Rule(jsonrpc.INTERNAL_ERROR, 503, "database_unavailable", on_transport=True)


@dataclass(frozen=True, slots=True)
class Codes:
    """One row of the table. `native` is None for an error that only A2A has."""

    native: Rule | None
    a2a: Kind = INVALID


#: A subclass without a row has the codes of its base class.
ERRORS: Mapping[type[Exception], Codes] = MappingProxyType(
    {
        MalformedJson: Codes(
            Rule(jsonrpc.PARSE_ERROR, 400, "invalid_json", on_transport=True),
            Kind(jsonrpc.PARSE_ERROR, 400, "INVALID_ARGUMENT"),
        ),
        AuthenticationFailed: Codes(
            Rule(-32004, 401, "authentication_required", on_transport=True),
            Kind(-32031, 401, "UNAUTHENTICATED"),
        ),
        wire.WrongHttpMethod: Codes(
            Rule(jsonrpc.INVALID_REQUEST, 405, "method_not_allowed", on_transport=True),
            Kind(jsonrpc.INVALID_REQUEST, 405, "UNIMPLEMENTED"),
        ),
        wire.BodyTooLarge: Codes(
            Rule(jsonrpc.INVALID_REQUEST, 413, "too_large", on_transport=True),
            Kind(jsonrpc.INVALID_REQUEST, 413, "INVALID_ARGUMENT"),
        ),
        wire.HeadersTooLarge: Codes(Rule(jsonrpc.INVALID_REQUEST, 431, "headers_too_large", on_transport=True)),
        wire.RequestTooSlow: Codes(Rule(jsonrpc.INVALID_REQUEST, 408, "too_slow", on_transport=True)),
        wire.TooManyConnections: Codes(Rule(-32029, 429, "limit_reached")),
        wire.UnsupportedMediaType: Codes(
            Rule(jsonrpc.INVALID_REQUEST, 415, "unsupported_media_type", on_transport=True),
            Kind(-32005, 415, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
        ),
        TurnTooFar: Codes(Rule(-32029, 429, "limit_reached"), Kind(-32029, 429, "RESOURCE_EXHAUSTED")),
        OperationalError: Codes(DATABASE, UNAVAILABLE),
        InterfaceError: Codes(DATABASE, UNAVAILABLE),
        wire.ShuttingDown: Codes(None, Kind(-32030, 503, "UNAVAILABLE")),
        wire.UnknownMethod: Codes(
            Rule(jsonrpc.METHOD_NOT_FOUND, 404, "method_not_found"),
            Kind(jsonrpc.METHOD_NOT_FOUND, 404, "NOT_FOUND"),
        ),
        wire.NotRunYet: Codes(Rule(-32001, 404, "not_run_yet"), Kind(-32001, 404, "NOT_FOUND")),
        wire.ResponseNotFound: Codes(Rule(-32001, 404, "response_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        wire.ModelNotFound: Codes(Rule(-32001, 404, "model_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        wire.RunFailed: Codes(Rule(-32006, 422, "run_failed"), UNSUPPORTED),
        wire.EventsPruned: Codes(Rule(-32001, 410, "events_pruned"), Kind(-32001, 410, "NOT_FOUND")),
        domain.InvalidParams: Codes(Rule(jsonrpc.INVALID_PARAMS, 400, "invalid_params")),
        domain.ResponsesTooLarge: Codes(Rule(-32029, 429, "limit_reached"), Kind(-32029, 429, "RESOURCE_EXHAUSTED")),
        domain.ResponseTooLarge: Codes(Rule(jsonrpc.INVALID_PARAMS, 400, "response_too_large")),
        domain.TaskNotFound: Codes(
            Rule(-32001, 404, "task_not_found"), Kind(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND")
        ),
        domain.RunNotFound: Codes(Rule(-32001, 404, "run_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.CallNotFound: Codes(Rule(-32001, 404, "call_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.FlowNotFound: Codes(Rule(-32001, 404, "flow_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.DatasetNotFound: Codes(Rule(-32001, 404, "dataset_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.ExperimentNotFound: Codes(Rule(-32001, 404, "experiment_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.NotificationNotFound: Codes(Rule(-32001, 404, "notification_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.HookNotFound: Codes(Rule(-32001, 404, "hook_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.DeliveryNotFound: Codes(Rule(-32001, 404, "delivery_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.LimitNotFound: Codes(Rule(-32001, 404, "limit_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.FileNotFound: Codes(Rule(-32001, 404, "file_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.FileTooLarge: Codes(Rule(jsonrpc.INVALID_PARAMS, 413, "file_too_large")),
        domain.FileDiffers: Codes(Rule(jsonrpc.INVALID_PARAMS, 422, "file_differs")),
        domain.StoreUnavailable: Codes(
            Rule(jsonrpc.INTERNAL_ERROR, 503, "store_unavailable", on_transport=True), UNAVAILABLE
        ),
        domain.StoreFull: Codes(Rule(jsonrpc.INTERNAL_ERROR, 507, "store_full", on_transport=True), UNAVAILABLE),
        domain.ScheduleNotFound: Codes(Rule(-32001, 404, "schedule_not_found"), Kind(-32001, 404, "NOT_FOUND")),
        domain.CircularDependency: Codes(Rule(-32002, 422, "circular_dependency")),
        domain.ExecutorNotFound: Codes(Rule(-32003, 422, "executor_not_found")),
        domain.RoleTooLow: Codes(
            Rule(-32004, 403, "role_too_low", on_transport=True), Kind(-32032, 403, "PERMISSION_DENIED")
        ),
        domain.SchemaMismatch: Codes(Rule(-32005, 422, "schema_mismatch")),
        domain.StatusConflict: Codes(Rule(-32006, 409, "status_conflict"), UNSUPPORTED),
        domain.AlreadyExecuting: Codes(Rule(-32008, 409, "already_executing"), UNSUPPORTED),
        domain.CannotDelete: Codes(Rule(-32009, 409, "cannot_delete")),
        domain.InvalidParent: Codes(Rule(-32010, 422, "invalid_parent")),
        domain.InvalidDependency: Codes(Rule(-32011, 422, "invalid_dependency")),
        domain.InvalidTree: Codes(Rule(-32012, 422, "invalid_tree")),
        domain.GenerationFailed: Codes(Rule(-32020, 422, "generation_failed")),
        domain.LimitReached: Codes(Rule(-32029, 429, "limit_reached"), Kind(-32029, 429, "RESOURCE_EXHAUSTED")),
        wire.TaskNotCancelable: Codes(None, Kind(-32002, 409, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE")),
        wire.PushNotificationNotSupported: Codes(
            None, Kind(-32003, 400, "UNIMPLEMENTED", "PUSH_NOTIFICATION_NOT_SUPPORTED")
        ),
        wire.UnsupportedOperation: Codes(None, UNSUPPORTED),
        wire.EventsGone: Codes(None, Kind(-32040, 410, "OUT_OF_RANGE", "EVENTS_GONE")),
        wire.ContentTypeNotSupported: Codes(None, Kind(-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED")),
        wire.ExtendedCardNotConfigured: Codes(
            None, Kind(-32007, 400, "FAILED_PRECONDITION", "EXTENDED_AGENT_CARD_NOT_CONFIGURED")
        ),
        wire.ExtensionSupportRequired: Codes(
            None, Kind(-32008, 400, "FAILED_PRECONDITION", "EXTENSION_SUPPORT_REQUIRED")
        ),
        wire.VersionNotSupported: Codes(None, Kind(-32009, 400, "UNIMPLEMENTED", "VERSION_NOT_SUPPORTED")),
    }
)
#: The rules of our own interfaces.
RULES: Mapping[type[Exception], Rule] = MappingProxyType(
    {error: codes.native for error, codes in ERRORS.items() if codes.native is not None}
)
INTERNAL: Final = Rule(jsonrpc.INTERNAL_ERROR, 500, "internal")
_BUG: Final = Codes(INTERNAL, Kind(jsonrpc.INTERNAL_ERROR, 500, "INTERNAL"))


def codes_of(error: Exception) -> Codes:
    return next((ERRORS[base] for base in type(error).__mro__ if base in ERRORS), _BUG)


def rule_of(error: Exception) -> Rule:
    return codes_of(error).native or INTERNAL


def kind_of(error: Exception) -> Kind:
    return codes_of(error).a2a


def failure_of(error: Exception, *, call_id: Id = None) -> Failure:
    """Return the error as a JSON-RPC failure.

    Unknown errors are logged; the client gets only an `error_id`.
    """
    rule = rule_of(error)
    message, data = _words(error)
    status = rule.http_status if rule.on_transport else 200
    return Failure(code=rule.code, message=message, data=data, id=call_id, http_status=status)


def as_rpc(error: Exception) -> dict[str, Any]:
    """Return an error outside of a call, in the format of the JSON-RPC endpoints."""
    return failure_of(error).to_json()


def as_rest(error: Exception) -> dict[str, Any]:
    """Return an error in the format of REST: `{"error": {"code", "message", "data"?}}`; code is its name."""
    message, data = _words(error)
    shown = {"code": rule_of(error).name, "message": message}
    return {"error": shown if data is None else shown | {"data": data}}


def _words(error: Exception) -> tuple[str, Any]:
    if rule_of(error).code == jsonrpc.INTERNAL_ERROR and not isinstance(error, domain.StoreUnavailable):
        return _logged(error)
    return getattr(error, "message", None) or str(error), getattr(error, "data", None)


def _logged(error: Exception) -> tuple[str, Any]:
    error_id = new_id()
    if rule_of(error) is INTERNAL:
        log.error(
            "%s: internal error", error_id, exc_info=error, extra={"event": "request.error", "error_id": error_id}
        )
        return "Internal error. The server log has details under this error_id.", {"error_id": error_id}
    # Without a traceback: the cause is not in our code, and each request has the same one.
    cause = " ".join(str(error).split())
    log.error("%s: database error: %s", error_id, cause, extra={"event": "database.error", "error_id": error_id})
    if isinstance(error, DatabaseFileGone):
        reason = "file has been deleted or replaced, so nothing was stored"
    else:
        reason = "is out of disk space, so nothing was stored" if is_disk_full(error) else "does not answer"
    return (
        f"The database {reason}. Try again in {RETRY_AFTER_SECONDS} seconds.",
        {"error_id": error_id, "retry_after_seconds": RETRY_AFTER_SECONDS},
    )
