"""Methods for notifications: messages about runs that fail and tasks that ask a question."""

from functools import partial

from a2a.methods import notification_params as params
from a2a.methods.params import Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.services.messages import notifications
from tasks.services.messages.notification_tests import send_test


async def set_notification(caller: Caller, given: params.SetNotification) -> DataResult:
    """Let a message be sent when a run fails or a task asks a question, or replace the notification with this name."""
    kept = await pools.write(partial(notifications.set_notification, caller=caller, **given.arguments))
    return DataResult(native=notifications.native_of(kept))


def list_notifications(caller: Caller, given: Nothing) -> DataResult:
    """List the notifications of the caller, by name. Tokens and headers are not shown."""
    found = notifications.list_notifications(caller=caller)
    return DataResult(native={"notifications": [notifications.native_of(each) for each in found]})


async def test(caller: Caller, given: params.NotificationNamed) -> DataResult:
    """Send a test message now, once, and say whether it was delivered."""
    outcome = await send_test(caller=caller, name=given.name)
    is_delivered = outcome.error is None
    facts = {"delivered": is_delivered, "status_code": outcome.status_code, "error": outcome.error}
    return DataResult(native={"name": given.name} | facts)


async def delete(caller: Caller, given: params.NotificationNamed) -> DataResult:
    """Delete a notification. Messages about earlier events are still sent."""
    deleted = await pools.write(notifications.delete_notification, caller=caller, name=given.name)
    return DataResult(native={"name": given.name, "deleted": deleted})
