"""A test message of a notification: sent once, at once, with its outcome."""

from datetime import timedelta
from functools import partial
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.callers import Caller
from apflow_site.db import pools
from apflow_site.db.turns import take_turns
from llmkeys.cipher import CannotUnseal
from tasks.executors.email.mail import MAILTO
from tasks.models import Flow, Notification, Webhook
from tasks.rules.exceptions import LimitReached, NotificationNotFound
from tasks.services.messages.failure_messages import test_message
from tasks.services.messages.webhook_requests import WebhookResponse, send_by_mail, send_one, unreadable, with_headers
from tasks.services.messages.webhooks import BY_MAIL, TO_URL, secrets_of

USER_LOCK: Final = 0x6E_74_65_73
"""The first number of PostgreSQL's advisory locks of users who send test messages."""
SPARE_SECONDS: Final = 30
"""A test that has not ended this long after its timeout was lost with its process."""


async def send_test(*, caller: Caller, name: str) -> WebhookResponse:
    """Send the test message of one of the caller's notifications. Raises NotificationNotFound or LimitReached.

    It is not retried. One user sends one at a time.
    """
    found = await pools.write(_begin, caller=caller, name=name)
    try:
        return await _send(found)
    finally:
        await pools.write(partial(_end, found))


@transaction.atomic
def _begin(*, caller: Caller, name: str) -> Notification:
    take_turns(USER_LOCK, caller.user_id)
    own = Notification.objects.filter(user_id=caller.user_id)
    found = own.filter(name=name).first()
    if found is None:
        raise NotificationNotFound(name)
    if own.filter(testing_since__gt=Now() - _longest()).exists():
        raise LimitReached("Another test message of yours is being sent. Wait until it has ended.")
    own.filter(id=found.id).update(testing_since=Now())
    return found


def _end(notification: Notification) -> None:
    Notification.objects.filter(id=notification.id).update(testing_since=None)


def _longest() -> timedelta:
    return timedelta(seconds=settings.APFLOW.webhooks.timeout_seconds + SPARE_SECONDS)


async def _send(notification: Notification) -> WebhookResponse:
    is_mail = notification.url.startswith(MAILTO)
    webhook = Webhook(
        kind=BY_MAIL if is_mail else TO_URL,
        config_id=notification.id,
        url=notification.url,
        sealed=notification.sealed,
        method="POST",
    )
    try:
        secrets = secrets_of(webhook)
    except CannotUnseal as error:
        return unreadable(error)
    flow = await pools.read(_flow_of, notification)
    request = with_headers(test_message(notification, flow=flow, secrets=secrets), secrets.headers)
    if is_mail:
        return await send_by_mail(webhook, request, user_id=notification.user_id)
    return await send_one(webhook, request)


def _flow_of(notification: Notification) -> str | None:
    if notification.flow_id is None:
        return None
    return Flow.objects.filter(id=notification.flow_id).values_list("name", flat=True).first()
