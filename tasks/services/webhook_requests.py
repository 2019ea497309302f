"""What goes to a webhook: the request that its kind makes of an event, and what the answer to it means."""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from django.conf import settings
from django.utils.module_loading import import_string

from aipartnerupflow.executors import ExecutorError, HttpResponse
from llmkeys.cipher import CannotUnseal
from tasks.executors.http.safe_http import fetch, origin_of
from tasks.models import Webhook
from tasks.services.webhooks import Secrets, egress, secrets_of

Json = dict[str, Any]
#: Of the answers 4xx, those after which a repeat may succeed.
PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent for one event, beside the headers that the client itself chose; `then` once this has arrived, if the event means two."""

    body: bytes
    headers: Mapping[str, str]
    then: "Request | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookResponse:
    """What came of a request. `error` is None when it arrived. `is_gone`: nothing will ever arrive there."""

    status_code: int | None = None
    error: str | None = None
    may_retry: bool = False
    retry_after_seconds: float | None = None
    is_gone: bool = False


Renderer = Callable[[Webhook, Json, Secrets], Request | None]
"""Makes the request of an event; None where the event is not for this webhook. `webhook.run` is there to be read."""


def native(webhook: Webhook, event: Json, secrets: Secrets) -> Request:
    """The event as all streams have it, signed: the receiver knows that it is ours, whole and not an old one."""
    body, timestamp = orjson.dumps(event), str(int(time.time()))
    return Request(
        body=body,
        headers={
            "Content-Type": "application/json",
            "X-Apflow-Event-Id": f"{webhook.run_id}-{event['seq']}",
            "X-Apflow-Timestamp": timestamp,
            "X-Apflow-Signature": signature(body, timestamp=timestamp, key=secrets.token or ""),
        },
    )


def signature(body: bytes, *, timestamp: str, key: str) -> str:
    """`sha256=` and the HMAC of `<timestamp>.<body>` in hexadecimal."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def request_of(webhook: Webhook, event: Json) -> Request | None:
    """What to send for the event; None when this webhook does not want it. Raises CannotUnseal."""
    secrets = secrets_of(webhook)
    render: Renderer = import_string(settings.APFLOW_WEBHOOK_RENDERERS[webhook.kind])
    request = render(webhook, event, secrets)
    return request and _with_headers(request, secrets.headers)


def _with_headers(request: Request, headers: Mapping[str, str]) -> Request:
    then = request.then and _with_headers(request.then, headers)
    return Request(body=request.body, headers={**headers, **request.headers}, then=then)


async def send(webhook: Webhook, request: Request) -> WebhookResponse:
    """One try of all that the event means: what is refused in the middle begins again from its beginning."""
    answer = await _sent(webhook, request)
    if answer.error is not None or request.then is None:
        return answer
    return await send(webhook, request.then)


async def _sent(webhook: Webhook, request: Request) -> WebhookResponse:
    """Follows no redirect, reads no body, and takes no longer than `webhooks.timeout_seconds`."""
    try:
        reply = await fetch(
            webhook.method,
            webhook.url,
            headers=request.headers,
            content=request.body,
            timeout_seconds=settings.APFLOW.webhooks.timeout_seconds,
            max_body_bytes=None,
            egress=egress(),
            called=f"{webhook.method} {origin_of(webhook.url)}",  # many a service keeps its secret in the path
        )
    except ExecutorError as error:
        return WebhookResponse(error=str(error), may_retry=not error.permanent)
    return _meaning(reply)


def unreadable(error: CannotUnseal) -> WebhookResponse:
    """Nothing was sent, because this process cannot read with what. Another one may, or this one once it has the key."""
    return WebhookResponse(error=str(error), may_retry=True)


def _meaning(reply: HttpResponse) -> WebhookResponse:
    status = reply.status_code
    if 200 <= status < 300:
        return WebhookResponse(status_code=status)
    return WebhookResponse(
        status_code=status,
        error=f"It answered {status}." + (" Redirects are not followed." if 300 <= status < 400 else ""),
        may_retry=status >= 500 or status in PASSING,
        retry_after_seconds=reply.retry_after_seconds,
        is_gone=status == HTTPStatus.GONE,
    )
