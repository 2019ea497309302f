"""Methods for notifications: messages about runs that fail and tasks that ask a question."""

from functools import partial
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from a2a.core.parsing import NotWith, Params, Problem
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, has_one_of, method
from a2a.methods.params import HEADERS, FlowName, HeaderText, HookUrl, Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.services.messages import notifications
from tasks.services.messages.notifications import send_test

Name = Annotated[str, Meta(min_length=1, max_length=100)]
About = Literal["failures", "questions"]
Address = Annotated[str, Meta(min_length=3, max_length=254)]


class SetNotification(Params, frozen=True, kw_only=True):
    """notifications.set: about failed runs, questions or both, of a flow or, without one, of all runs; to a URL, or to an e-mail
    address.
    """

    CONDITIONS = (
        NotWith("email", "url", "choose one of url and email"),
        NotWith("token", "email", "only requests are signed"),
        NotWith("headers", "email", "only requests have them"),
    )
    name: Name
    about: Annotated[list[About], Meta(min_length=1, max_length=2, extra_json_schema={"uniqueItems": True})] | None = (
        None
    )
    """Default: failures."""
    flow: FlowName | None = None
    url: HookUrl | None = None
    email: Address | None = None
    token: HeaderText | None = None
    """Signs the requests. Default: the server makes one, and returns it once as `signing_key`."""
    headers: Annotated[dict[str, HeaderText], Meta(extra_json_schema=HEADERS)] | None = None
    format: Literal["json", "slack"] = "json"
    """The format of requests: ours, signed; or that of an incoming webhook of Slack, with buttons for the options of questions."""

    def contradictions(self) -> list[Problem]:
        is_missing = self.url is None and self.email is None
        found = [*([("url", "required, or email")] if is_missing else []), *super().contradictions()]
        if self.format == "slack" and self.url is None:
            found.append(("format", "is of requests to a url"))
        if self.format == "slack" and self.token is not None:
            found.append(("token", "Slack does not verify signatures: leave it out"))
        return found

    @property
    def arguments(self) -> Json:
        given = asdict(self)
        given["is_slack"] = given.pop("format") == "slack"
        return given if self.about is not None else {name: value for name, value in given.items() if name != "about"}


class NotificationNamed(Params, frozen=True, kw_only=True):
    """notifications.delete, notifications.test"""

    name: Name


class Notification(Response, frozen=True, kw_only=True):
    """A message about failed runs (`failures`), questions or both, of a flow or (null) of all runs. It goes to `url` or `email`; the other one is null.

    `signing_key` is there once: when the server has made it.
    """

    name: str
    about: list[Literal["failures", "questions"]]
    flow: str | None
    format: Literal["json", "slack"]
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


@method(
    "notifications.set",
    role=OPERATOR,
    answer=Notification,
    rest=[
        Rest(
            "setNotification",
            "PUT notifications/<name>/",
            errors=(errors.FlowNotFound, errors.LimitReached),
            rules={"oneOf": has_one_of("url", "email")},
        )
    ],
)
async def set_notification(caller: Caller, given: SetNotification) -> DataResult:
    """Let a message be sent when a run fails or a task asks a question, or replace the notification with this name."""
    kept = await pools.write(partial(notifications.set_notification, caller=caller, **given.arguments))
    return DataResult(native=notifications.native_of(kept))


@method("notifications.list", role=VIEWER, answer=Notifications, rest=[Rest("listNotifications", "GET notifications/")])
def list_notifications(caller: Caller, given: Nothing) -> DataResult:
    """List the notifications of the caller, by name. Tokens and headers are not shown."""
    found = notifications.list_notifications(caller=caller)
    return DataResult(native={"notifications": [notifications.native_of(each) for each in found]})


@method(
    "notifications.test",
    role=OPERATOR,
    answer=NotificationTested,
    rest=[
        Rest(
            "testNotification",
            "POST notifications/<name>/test/",
            errors=(errors.NotificationNotFound, errors.LimitReached),
        )
    ],
)
async def test(caller: Caller, given: NotificationNamed) -> DataResult:
    """Send a test message now, once, and say whether it was delivered."""
    outcome = await send_test(caller=caller, name=given.name)
    is_delivered = outcome.error is None
    facts = {"delivered": is_delivered, "status_code": outcome.status_code, "error": outcome.error}
    return DataResult(native={"name": given.name} | facts)


@method(
    "notifications.delete",
    role=OPERATOR,
    answer=NotificationDeleted,
    rest=[Rest("deleteNotification", "DELETE notifications/<name>/")],
)
async def delete(caller: Caller, given: NotificationNamed) -> DataResult:
    """Delete a notification. Messages about earlier events are still sent."""
    deleted = await pools.write(notifications.delete_notification, caller=caller, name=given.name)
    return DataResult(native={"name": given.name, "deleted": deleted})
