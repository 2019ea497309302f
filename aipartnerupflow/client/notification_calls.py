"""The methods for notifications as values."""

from collections.abc import Mapping, Sequence
from typing import Literal

from .calls import Call, given
from .notification_types import Notification, NotificationDeleted, Notifications, NotificationTested


def set_notification(
    name: str,
    *,
    about: Sequence[Literal["failures", "questions"]] | None = None,
    flow: str | None = None,
    url: str | None = None,
    email: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[Notification]:
    """Let a message be sent to `url` or `email` when a run of the flow fails; without `flow`, when any run does.

    `about`: `failures` (the default), `questions` of its tasks, or both.
    """
    params = given(
        name=name,
        about=about and list(about),
        flow=flow,
        url=url,
        email=email,
        token=token,
        headers=headers and dict(headers),
    )
    return Call("notifications.set", params)


def notifications() -> Call[Notifications]:
    """Return the notifications of the user, by name."""
    return Call("notifications.list", {})


def delete_notification(name: str) -> Call[NotificationDeleted]:
    """Delete a notification."""
    return Call("notifications.delete", {"name": name})


def test_notification(name: str) -> Call[NotificationTested]:
    """Send a test message of a notification now, once."""
    return Call("notifications.test", {"name": name})
