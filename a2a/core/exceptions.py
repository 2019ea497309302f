"""Errors of transports and of A2A; those of the domain are in `tasks.rules.exceptions`.

`a2a.core.errors` has the codes of each exception.
"""

from collections.abc import Sequence
from typing import Any

from tasks.rules.exceptions import TaskNotFound


class RequestRefused(Exception):
    """The HTTP request does not contain a JSON-RPC request."""

    def __init__(self, message: str, *, data: Any = None) -> None:
        self.message = message
        self.data = data
        super().__init__(message)


class BodyTooLarge(RequestRefused):
    """The body has more bytes than `limits.body_bytes`."""


class HeadersTooLarge(RequestRefused):
    """The headers have more bytes or lines than `limits.header_bytes` and `limits.headers`."""


class RequestTooSlow(RequestRefused):
    """The headers or the body did not arrive within `limits.header_seconds` or `limits.body_idle_seconds`."""


class TooManyConnections(RequestRefused):
    """The client's address has `limits.connections_per_address` open connections."""


class UnsupportedMediaType(RequestRefused):
    """The body is not declared as JSON."""


class WrongHttpMethod(RequestRefused):
    """The URL does not support this HTTP method."""

    def __init__(self, message: str, *, methods: Sequence[str]) -> None:
        self.methods = methods
        super().__init__(message)


class UnknownMethod(RequestRefused):
    """No JSON-RPC method has this name."""


class NotRunYet(RequestRefused):
    """The task has no run, so there are no events to follow."""


class ResponseNotFound(RequestRefused):
    """Response not found."""

    def __init__(self, response_id: str) -> None:
        hint = "Check the id, and that the response belongs to you."
        super().__init__(f"Response '{response_id[:100]}' not found. {hint}")


class ModelNotFound(RequestRefused):
    """Nothing that runs here has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Model '{name[:100]}' not found. GET /v1/models lists yours: flow:NAME, workflow:NAME, agent."
        )


class RunFailed(RequestRefused):
    """The run of a chat completion failed or was cancelled: its wire has no such end."""


class EventsPruned(RequestRefused):
    """The next events of the run have been deleted (events.keep_days)."""


class ShuttingDown(RequestRefused):
    """This process shuts down before the task of a stream has ended."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down, and the task has not ended. Subscribe to it again.")


class ProtocolError(Exception):
    """Base class of the errors that A2A defines (A2A 1.0, section 3.3.2)."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class TaskNotCancelable(ProtocolError):
    """The task has finished."""


class PushNotificationNotSupported(ProtocolError):
    """This server sends no push notifications."""


class UnsupportedOperation(ProtocolError):
    """The server, or the state of the task, does not allow the operation."""


class EventsGone(ProtocolError):
    """Updates after the one that the client named have been deleted (events.keep_days)."""

    def __init__(self, task_id: str, *, first: int, last: int) -> None:
        super().__init__(
            f"The updates {first} to {last} of task '{task_id}' have been deleted (events.keep_days). "
            "Call GetTask for its status and results."
        )
        self.data = {"task_id": task_id, "first_seq": first, "last_seq": last}


class ContentTypeNotSupported(ProtocolError):
    """A part has a media type that no skill accepts."""


class ExtendedCardNotConfigured(ProtocolError):
    """There is no extended card."""


class ExtensionSupportRequired(ProtocolError):
    """The client does not support a required extension."""


class VersionNotSupported(ProtocolError):
    """The client requests a version of A2A that this server does not support."""


class ConfigNotFound(TaskNotFound):
    """Push notification config not found."""

    def __init__(self, config_id: str) -> None:
        super().__init__(config_id)
        self.message = f"Push notification config '{config_id}' not found. List the configs of the task for their ids."
        self.data = {"config_id": config_id}
