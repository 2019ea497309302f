"""The webhooks of a run, as its owner sees and deletes them."""

from collections.abc import Sequence

from django.db import transaction

from accounts.audit import Action
from accounts.callers import Caller
from tasks.models import Run, Webhook
from tasks.rules.strict_json import Json
from tasks.services.history import own_run
from tasks.services.messages.webhooks import OF_OTHERS, record, webhooks_of


def list_webhooks(*, caller: Caller, run_id: str) -> Sequence[Webhook]:
    """Return the webhooks of the owner of a run, in the order in which they were added. Raises RunNotFound."""
    return webhooks_of(own_run(caller=caller, run_id=run_id))


@transaction.atomic
def delete_webhook(*, caller: Caller, webhook_id: str) -> bool:
    """Stop deliveries and delete the webhook. False: there is none with that id, or its run has another owner."""
    own = Webhook.objects.filter(id=webhook_id, run__in=Run.objects.for_caller(caller)).exclude(kind__in=OF_OTHERS)
    webhook = own.select_related("run").select_for_update(of=("self",)).first()
    if webhook is None:
        return False
    record(Action.WEBHOOK_DELETED, webhook, webhook.run, actor=caller.user_id)
    webhook.delete()
    return True


def native_of(webhook: Webhook) -> Json:
    """Return a webhook as every interface shows it: never its token, headers and authentication."""
    closed = "disabled" if webhook.disabled_at is not None else "finished"
    return {
        "id": webhook.id,
        "run_id": webhook.run_id,
        "kind": webhook.kind,
        "url": webhook.url,
        "method": webhook.method,
        "state": "open" if webhook.closed_at is None else closed,
        "last_seq": webhook.next_seq - 1,
        "created_at": webhook.created_at.isoformat(),
    }
