"""Push notifications: webhooks that send A2A updates (A2A 1.0, sections 3.1.7 to 4.3)."""

from typing import Final

import orjson
from django.conf import settings

from a2a.core.exceptions import ConfigNotFound, PushNotificationNotSupported
from a2a.protocol.file_parts import with_links
from a2a.protocol.params import (
    CreatePushConfig,
    ListPushConfigs,
    OfPushConfig,
    PushConfig,
    RequestContext,
    place_of,
    token_of,
)
from a2a.protocol.parts import has_file_part
from a2a.protocol.queries import find_run, has_sent_result, is_only_task, node_of, task_of
from a2a.protocol.updates import has_result, last_updates, update_of
from accounts.callers import Caller
from tasks.ids import new_id
from tasks.models import Run, Webhook
from tasks.rules.a2a_versions import JSON_RPC, task_out
from tasks.rules.strict_json import Json
from tasks.services.messages.webhook_requests import Request
from tasks.services.messages.webhooks import Secrets, add_webhook, remove_webhook, secrets_of, webhooks_of

KINDS: Final = {"1.0": "a2a", "0.3": "a2a_0_3"}
"""A2A version → the kind of webhook for it."""
TOKEN_HEADER: Final = "X-A2A-Notification-Token"
TOLD_TO_0_3: Final = frozenset({"task_completed", "task_failed", "task_cancelled", "final"})
"""Events that clients of A2A 0.3 receive. Each contains the whole Task, so not all events are sent.
"""


def require_push() -> None:
    """Raise PushNotificationNotSupported if `a2a.push_notifications` is off."""
    if not settings.APFLOW.a2a.push_notifications:
        raise PushNotificationNotSupported("This server does not send push notifications (a2a.push_notifications).")


def add_config(run: Run, config: PushConfig, *, caller: Caller, version: str, after: int) -> Webhook:
    """Add a webhook for the events of the run after sequence number `after`.

    Raises InvalidParams or LimitReached.
    """
    require_push()
    return add_webhook(
        run=run,
        url=config.url,
        kind=KINDS[version],
        config_id=config.id or new_id(),
        token=config.token or None,
        authentication=config.authentication.to_json() if config.authentication else None,
        after=after,
        actor=caller.user_id,
    )


def create(asked: RequestContext, given: CreatePushConfig) -> Json:
    run = find_run(caller=asked.caller, task_id=given.task_id)
    return _without_secrets(add_config(run, given, caller=asked.caller, version=asked.version, after=run.last_seq))


def get(asked: RequestContext, given: OfPushConfig) -> Json:
    """Return a config of a Task. Raises ConfigNotFound."""
    run = find_run(caller=asked.caller, task_id=given.task_id)
    found = next((webhook for webhook in _configs(run) if webhook.config_id == given.id), None)
    if found is None:
        raise ConfigNotFound(given.id)
    return _without_secrets(found)


def list_(asked: RequestContext, given: ListPushConfigs) -> Json:
    """Return a page of the configs of a Task; without a page size, all of them.

    Raises InvalidParams.
    """
    left = _configs(find_run(caller=asked.caller, task_id=given.task_id))
    if given.page_token:
        place = place_of(given.page_token)
        left = [webhook for webhook in left if (webhook.created_at, webhook.id) > place]
    page = left[: given.page_size or None]
    token = token_of(page[-1].created_at, page[-1].id) if len(left) > len(page) else ""
    return {"configs": list(map(_without_secrets, page)), "nextPageToken": token}


def delete(asked: RequestContext, given: OfPushConfig) -> Json:
    """Delete a config of a Task. Idempotent."""
    run = find_run(caller=asked.caller, task_id=given.task_id)
    if any(webhook.config_id == given.id for webhook in _configs(run)):
        remove_webhook(run, config_id=given.id, actor=asked.caller.user_id)
    return {}


def _configs(run: Run) -> list[Webhook]:
    return [webhook for webhook in webhooks_of(run) if webhook.kind in KINDS.values()]


def _without_secrets(webhook: Webhook) -> Json:
    config: Json = {"taskId": webhook.run_id, "id": webhook.config_id, "url": webhook.url}
    authentication = secrets_of(webhook).authentication
    return config | {"authentication": {"scheme": authentication["scheme"]}} if authentication else config


# --- notifications ---


def render(webhook: Webhook, event: Json, secrets: Secrets) -> Request:
    """Return the notification of an event for A2A 1.0: the StreamResponses that a stream would send."""
    headers = _headers(secrets, "application/a2a+json")
    if event["type"] != "final":
        task_id = event["task_id"]
        is_only = has_result(event) and is_only_task(task_id=task_id, root_id=event["root_task_id"])
        nodes = node_of(task_id=task_id)
        update = _linked(update_of(event, context_id=webhook.run.context_id, nodes=nodes, is_only=is_only), webhook.run)
        return Request(body=orjson.dumps(update), headers=headers)
    run, task = task_of(run_id=webhook.run_id, history_length=0)
    updates = last_updates(task, event=event, has_sent_result=has_sent_result(run, task))
    *before, last = [orjson.dumps(_linked(update, run)) for update in updates]
    request = Request(body=last, headers=headers)
    return Request(body=before[0], headers=headers, then=request) if before else request


def render_0_3(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Return the notification for A2A 0.3: the whole Task; None for events that are not sent.

    Each contains the Task as it is now. Once the run is over, only its last event is sent, or the same Task would be
    sent for each event that is left.
    """
    if event["type"] not in TOLD_TO_0_3 and event["seq"] > 1:
        return None
    run, task = task_of(run_id=webhook.run_id)
    if run.finished_at is not None and event["type"] != "final":
        return None
    return Request(
        body=orjson.dumps(task_out(_linked(task, run), JSON_RPC)), headers=_headers(secrets, "application/json")
    )


def _linked(sent: Json, run: Run) -> Json:
    """Return what is sent with links to the files of the run's owner, if `server.public_url` says where they are."""
    if not has_file_part(sent):
        return sent
    return with_links(sent, caller=Caller(user_id=run.user_id), url=settings.APFLOW.server.public_url or "")


def _headers(secrets: Secrets, content_type: str) -> dict[str, str]:
    headers = {"Content-Type": content_type}
    if secrets.token:
        headers[TOKEN_HEADER] = secrets.token
    if secrets.authentication:
        headers["Authorization"] = (
            f"{secrets.authentication['scheme']} {secrets.authentication.get('credentials', '')}".strip()
        )
    return headers
