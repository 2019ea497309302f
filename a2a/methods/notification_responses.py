"""The results of the methods for notifications, as types."""

from typing import Literal

from msgspec import UNSET, UnsetType

from a2a.methods.response import Response


class Notification(Response, frozen=True, kw_only=True):
    """A message about failed runs (`failures`), questions or both, of a flow or (null) of all runs. It goes to `url` or `email`; the other one is null.

    `signing_key` is there once: when the server has made it.
    """

    name: str
    about: list[Literal["failures", "questions"]]
    flow: str | None
    url: str | None
    email: str | None
    created_at: str
    updated_at: str
    signing_key: str | UnsetType = UNSET


class Notifications(Response, frozen=True, kw_only=True):
    """The notifications of the caller, by name."""

    notifications: list[Notification]


class NotificationDeleted(Response, frozen=True, kw_only=True):
    """Whether there was a notification with that name."""

    name: str
    deleted: bool


class NotificationTested(Response, frozen=True, kw_only=True):
    """Whether the test message was delivered. `status_code` is of the receiver's reply, null for a mail or without a reply."""

    name: str
    delivered: bool
    status_code: int | None
    error: str | None
