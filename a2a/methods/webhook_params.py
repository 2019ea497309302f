"""The parameters of the methods for webhooks."""

from a2a.core.parsing import Params, Text


class WebhooksOfRun(Params, frozen=True, kw_only=True):
    """webhooks.list"""

    run_id: Text


class WebhookNamed(Params, frozen=True, kw_only=True):
    """webhooks.delete"""

    webhook_id: Text
