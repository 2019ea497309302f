"""Methods for the webhooks of runs."""

from typing import Literal

from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, method
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.services.messages import webhooks as run_webhooks


class WebhooksOfRun(Params, frozen=True, kw_only=True):
    """webhooks.list"""

    run_id: Text


class WebhookNamed(Params, frozen=True, kw_only=True):
    """webhooks.delete"""

    webhook_id: Text


class RunWebhook(Response, frozen=True, kw_only=True):
    """A URL that receives the events of a run. `last_seq` is the last event that was delivered or given up; 0: none.

    `kind` is `native`, `a2a` or `a2a_0_3` for push notifications, and `failure` or `failure_email` for notifications
    about runs that fail. `state` is `finished` when the run has ended and all was sent, and `disabled` when the
    receiver rejected too much.
    """

    id: str
    run_id: str
    kind: str
    url: str
    method: str
    state: Literal["open", "finished", "disabled"]
    last_seq: int
    created_at: str


class RunWebhooks(Response, frozen=True, kw_only=True):
    """The webhooks of a run, in the order in which they were added."""

    webhooks: list[RunWebhook]


class WebhookDeleted(Response, frozen=True, kw_only=True):
    """Whether there was a webhook with that id."""

    webhook_id: str
    deleted: bool


@method(
    "webhooks.list", role=VIEWER, answer=RunWebhooks, rest=[Rest("listWebhooksOfRun", "GET runs/<run_id>/webhooks/")]
)
def list_webhooks(caller: Caller, given: WebhooksOfRun) -> DataResult:
    """List the webhooks of a run, in the order in which they were added. Tokens and headers are not shown."""
    found = run_webhooks.list_webhooks(caller=caller, run_id=given.run_id)
    return DataResult(native={"webhooks": [run_webhooks.native_of(each) for each in found]})


@method(
    "webhooks.delete",
    role=OPERATOR,
    answer=WebhookDeleted,
    rest=[Rest("deleteWebhook", "DELETE webhooks/<webhook_id>/")],
)
async def delete(caller: Caller, given: WebhookNamed) -> DataResult:
    """Delete a webhook: nothing more is sent to it, except a request that is under way."""
    deleted = await pools.write(run_webhooks.delete_webhook, caller=caller, webhook_id=given.webhook_id)
    return DataResult(native={"webhook_id": given.webhook_id, "deleted": deleted})
