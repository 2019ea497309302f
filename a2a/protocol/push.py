"""Push notifications: a config of A2A's is a webhook of the run, whose events go out as A2A's updates (A2A 1.0, sections 3.1.7 to 4.3)."""

from typing import Any, Final

import orjson
from django.conf import settings

from a2a.core.exceptions import ConfigNotFound, PushNotificationNotSupported
from a2a.protocol.paging import place_of, token_of
from a2a.protocol.params import CreatePushConfig, ListPushConfigs, OfPushConfig, PushConfig
from a2a.protocol.queries import find_run, node_of, task_of
from a2a.protocol.updates import last_updates, update_of
from accounts.callers import Caller
from tasks.ids import new_id
from tasks.models import Run, Webhook
from tasks.rules.a2a_versions import JSON_RPC, task_out
from tasks.rules.strict_json import Json
from tasks.services.webhook_requests import Request
from tasks.services.webhooks import Secrets, add_webhook, remove_webhook, secrets_of, webhooks_of

KINDS: Final = {"1.0": "a2a", "0.3": "a2a_0_3"}
"""Version of A2A → the kind of webhook that speaks it."""
TOKEN_HEADER: Final = "X-A2A-Notification-Token"
TOLD_TO_0_3: Final = frozenset({"task_completed", "task_failed", "task_cancelled", "final"})
"""0.3 sends the whole Task each time, so not for every step."""


def require_push() -> None:
    """Raises PushNotificationNotSupported."""
    if not settings.APFLOW.a2a.push_notifications:
        raise PushNotificationNotSupported("This server sends no push notifications (a2a.push_notifications).")


def add_config(run: Run, config: PushConfig, *, version: str, after: int) -> Webhook:
    """Tell this address what happens in the run beyond the event `after`. Raises InvalidParams or LimitReached."""
    require_push()
    return add_webhook(
        run=run,
        url=config.url,
        kind=KINDS[version],
        config_id=config.id or new_id(),
        token=config.token or None,
        authentication=config.authentication.to_json() if config.authentication else None,
        after=after,
    )


def create(*, caller: Caller, given: CreatePushConfig, version: str) -> Json:
    run = find_run(caller=caller, task_id=given.task_id)
    return _shown(add_config(run, given, version=version, after=run.last_seq))


def get(*, caller: Caller, given: OfPushConfig) -> Json:
    """Raises ConfigNotFound."""
    run = find_run(caller=caller, task_id=given.task_id)
    found = next((webhook for webhook in _configs(run) if webhook.config_id == given.id), None)
    if found is None:
        raise ConfigNotFound(given.id)
    return _shown(found)


def list_(*, caller: Caller, given: ListPushConfigs) -> Json:
    """A page of them; without a size all, of which a run has a few at most (webhooks.max_per_run). Raises InvalidParams."""
    left = _configs(find_run(caller=caller, task_id=given.task_id))
    if given.page_token:
        place = place_of(given.page_token)
        left = [webhook for webhook in left if (webhook.created_at, webhook.id) > place]
    page = left[: given.page_size or None]
    token = token_of(page[-1].created_at, page[-1].id) if len(left) > len(page) else ""
    return {"configs": list(map(_shown, page)), "nextPageToken": token}


def delete(*, caller: Caller, given: OfPushConfig) -> Json:
    """However often."""
    run = find_run(caller=caller, task_id=given.task_id)
    if any(webhook.config_id == given.id for webhook in _configs(run)):
        remove_webhook(run, config_id=given.id)
    return {}


def _configs(run: Run) -> list[Webhook]:
    return [webhook for webhook in webhooks_of(run) if webhook.kind in KINDS.values()]


def _shown(webhook: Webhook) -> Json:
    """A config without its secrets: who made it knows them, and nobody else needs to."""
    shown: Json = {"taskId": webhook.run_id, "id": webhook.config_id, "url": webhook.url}
    authentication = secrets_of(webhook).authentication
    return shown | {"authentication": {"scheme": authentication["scheme"]}} if authentication else shown


# --- what is sent ---


def render(webhook: Webhook, event: Json, secrets: Secrets) -> Request:
    """For 1.0: each StreamResponse that a stream would send."""
    headers = _headers(secrets, "application/a2a+json")
    if event["type"] != "final":
        update = update_of(event, context_id=webhook.run.context_id, nodes=node_of(task_id=event["task_id"]))
        return Request(body=orjson.dumps(update), headers=headers)
    _, task = task_of(run_id=webhook.run_id, history_length=0)
    *before, last = [orjson.dumps(update) for update in last_updates(task, event=event)]
    request = Request(body=last, headers=headers)
    return Request(body=before[0], headers=headers, then=request) if before else request


def render_0_3(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """For 0.3: the Task, at the events that change what it shows."""
    if event["type"] not in TOLD_TO_0_3 and event["seq"] > 1:
        return None
    _, task = task_of(run_id=webhook.run_id)
    return Request(body=orjson.dumps(task_out(task, JSON_RPC)), headers=_headers(secrets, "application/json"))


def _headers(secrets: Secrets, content_type: str) -> dict[str, str]:
    headers = {"Content-Type": content_type}
    if secrets.token:
        headers[TOKEN_HEADER] = secrets.token
    if secrets.authentication:
        headers["Authorization"] = _authorization(secrets.authentication)
    return headers


def _authorization(authentication: Any) -> str:
    return f"{authentication['scheme']} {authentication.get('credentials', '')}".strip()
