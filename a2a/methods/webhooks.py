"""Methods for the webhooks of runs."""

from a2a.methods import webhook_params as params
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.services.messages import run_webhooks


def list_webhooks(caller: Caller, given: params.WebhooksOfRun) -> DataResult:
    """List the webhooks of a run, in the order in which they were added. Tokens and headers are not shown."""
    found = run_webhooks.list_webhooks(caller=caller, run_id=given.run_id)
    return DataResult(native={"webhooks": [run_webhooks.native_of(each) for each in found]})


async def delete(caller: Caller, given: params.WebhookNamed) -> DataResult:
    """Delete a webhook: nothing more is sent to it, except a request that is under way."""
    deleted = await pools.write(run_webhooks.delete_webhook, caller=caller, webhook_id=given.webhook_id)
    return DataResult(native={"webhook_id": given.webhook_id, "deleted": deleted})
