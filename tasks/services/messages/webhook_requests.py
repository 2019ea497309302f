"""Render an event as a webhook request, and classify the response."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson
from django.conf import settings
from django.utils.module_loading import import_string

from aipartnerupflow.executors import ExecutorError
from apflow_site.db import pools
from llmkeys.cipher import CannotUnseal
from tasks.executors.email.mail import MAILTO, Mail, NotSent
from tasks.executors.email.mail import send as send_mail
from tasks.executors.http.safe_http import fetch, origin_of
from tasks.models import Run, Webhook
from tasks.rules.signatures import STANDARD, STANDARD_PREFIX, key_of
from tasks.rules.strict_json import Json
from tasks.rules.words import as_sent
from tasks.services.messages.webhooks import MAILS, Secrets, egress, secrets_of

#: The 4xx responses after which a retry may succeed.
PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request for one event, besides the headers that the client chose.

    `then` is sent after this request has been delivered, if the event needs two.
    """

    body: bytes
    headers: Mapping[str, str]
    then: "Request | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookResponse:
    """The outcome of a request.

    `error` is None if it was delivered. `is_gone`: nothing can be delivered there again.
    """

    status_code: int | None = None
    error: str | None = None
    may_retry: bool = False
    retry_after_seconds: float | None = None
    is_gone: bool = False


Renderer = Callable[[Webhook, Json, Secrets], Request | None]
"""Renders the request for an event; None if the event is not for this webhook.

It may read `webhook.run`.
"""


def native(webhook: Webhook, event: Json, secrets: Secrets) -> Request:
    """Render the event as all streams do."""
    return signed(as_sent(event, has_tokens=False), secrets, event_id=f"{webhook.run_id}-{event['seq']}")


def signed(message: Json, secrets: Secrets, *, event_id: str) -> Request:
    """Sign a message, in our own headers and those of Standard Webhooks: receivers can check origin, integrity and age."""
    body, timestamp = orjson.dumps(message), str(int(time.time()))
    key = secrets.token or ""
    return Request(
        body=body,
        headers={
            "Content-Type": "application/json",
            "X-Apflow-Event-Id": event_id,
            "X-Apflow-Timestamp": timestamp,
            "X-Apflow-Signature": signature(body, timestamp=timestamp, key=key),
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": standard_signature(body, message_id=event_id, timestamp=timestamp, key=key),
        },
    )


def signature(body: bytes, *, timestamp: str, key: str) -> str:
    """Return `sha256=` and the HMAC of `<timestamp>.<body>` in hexadecimal."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def standard_signature(body: bytes, *, message_id: str, timestamp: str, key: str) -> str:
    """Return the signature of Standard Webhooks 1.0: `v1,` and, in Base64, the HMAC of `<id>.<timestamp>.<body>`.

    The key is what `whsec_` stands before in Base64 or, for a token of another form, its text.
    """
    raw = key.encode()
    if key.startswith(STANDARD_PREFIX):
        with suppress(ValueError):
            raw = key_of(STANDARD, key)
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()


def request_of(webhook: Webhook, event: Json) -> Request | None:
    """Return the request for the event; None if this webhook does not want it. Raises CannotUnseal."""
    secrets = secrets_of(webhook)
    render: Renderer = import_string(settings.APFLOW_WEBHOOK_RENDERERS[webhook.kind])
    request = render(webhook, event, secrets)
    return request and with_headers(request, secrets.headers)


def with_headers(request: Request, headers: Mapping[str, str]) -> Request:
    """Add the headers that the client chose."""
    then = request.then and with_headers(request.then, headers)
    return Request(body=request.body, headers={**headers, **request.headers}, then=then)


async def send(webhook: Webhook, request: Request) -> WebhookResponse:
    """Try once to send all requests of an event.

    After an error in between, a retry starts with the first request.
    """
    if webhook.kind in MAILS:
        owner = Run.objects.filter(id=webhook.run_id).values_list("user_id", flat=True)
        return await send_by_mail(webhook, request, user_id=await pools.read(owner.get))
    answer = await send_one(webhook, request)
    if answer.error is not None or request.then is None:
        return answer
    return await send(webhook, request.then)


async def send_by_mail(webhook: Webhook, request: Request, *, user_id: str) -> WebhookResponse:
    """Try once to send a mail, which counts for the limits of the user."""
    address = webhook.url.removeprefix(MAILTO)
    mail = Mail(to=[address], subject=request.headers["Subject"], text=request.body.decode())
    try:
        await send_mail(mail, user_id=user_id)
    except NotSent as error:
        return WebhookResponse(error=str(error), may_retry=not error.permanent)
    return WebhookResponse()


async def send_one(webhook: Webhook, request: Request) -> WebhookResponse:
    """Send one request.

    Follows no redirects, reads no body, and takes at most `webhooks.timeout_seconds`.
    """
    try:
        reply = await fetch(
            webhook.method,
            webhook.url,
            headers=request.headers,
            content=request.body,
            timeout_seconds=settings.APFLOW.webhooks.timeout_seconds,
            max_body_bytes=None,
            egress=egress(),
            called=f"{webhook.method} {origin_of(webhook.url)}",  # many services have their secret in the path
        )
    except ExecutorError as error:
        return WebhookResponse(error=str(error), may_retry=not error.permanent)
    status = reply.status_code
    if 200 <= status < 300:
        return WebhookResponse(status_code=status)
    return WebhookResponse(
        status_code=status,
        error=f"The receiver answered {status}." + (" Redirects are not followed." if 300 <= status < 400 else ""),
        may_retry=status >= 500 or status in PASSING,
        retry_after_seconds=reply.retry_after_seconds,
        is_gone=status == HTTPStatus.GONE,
    )


def unreadable(error: CannotUnseal) -> WebhookResponse:
    """Return the outcome for secrets that this process cannot decrypt.

    Another process may be able to, or this one with the right key.
    """
    return WebhookResponse(error=str(error), may_retry=True)
