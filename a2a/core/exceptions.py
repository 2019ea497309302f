"""What can be wrong with a request of a transport or of A2A; the domain's own errors are in `tasks.rules.exceptions`.

Each exception has its codes in `a2a.core.errors`.
"""

from collections.abc import Sequence
from typing import Any

from tasks.rules.exceptions import TaskNotFound


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


class ProtocolError(Exception):
    """A request for which A2A defines an error of its own (A2A 1.0, section 3.3.2)."""

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
    """The client asks for a version of A2A that this server does not support."""


class ConfigNotFound(TaskNotFound):
    """Push notification config not found."""

    def __init__(self, config_id: str) -> None:
        super().__init__(config_id)
        self.message = f"Push notification config '{config_id}' not found. List those of the task to see their ids."
        self.data = {"config_id": config_id}
