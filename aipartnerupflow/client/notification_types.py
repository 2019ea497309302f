"""Types of the replies about notifications."""

from typing import Literal, NotRequired, TypedDict


class Notification(TypedDict):
    """A message about failed runs (`failures`), questions or both, of a flow or (None) of all runs. `signing_key` is there once, when the server has made it."""

    name: str
    about: list[Literal["failures", "questions"]]
    flow: str | None
    url: str | None
    email: str | None
    created_at: str
    updated_at: str
    signing_key: NotRequired[str]


class Notifications(TypedDict):
    """The notifications of the caller, by name."""

    notifications: list[Notification]


class NotificationDeleted(TypedDict):
    """Whether there was a notification with that name."""

    name: str
    deleted: bool


class NotificationTested(TypedDict):
    """Whether the test message was delivered. `status_code` is of the receiver's reply; None for a mail, or without a reply."""

    name: str
    delivered: bool
    status_code: int | None
    error: str | None
