"""The methods for the webhooks of runs as values."""

from .calls import Call
from .webhook_types import RunWebhooks, WebhookDeleted


def webhooks(run_id: str) -> Call[RunWebhooks]:
    """Return the webhooks of a run, in the order in which they were added."""
    return Call("webhooks.list", {"run_id": run_id})


def delete_webhook(webhook_id: str) -> Call[WebhookDeleted]:
    """Delete a webhook: nothing more is sent to it."""
    return Call("webhooks.delete", {"webhook_id": webhook_id})
