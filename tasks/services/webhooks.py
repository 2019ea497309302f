"""Webhooks: which addresses get the events of a run, and how far each of them is.

A webhook is a place in the run's event log. Nothing is queued for it: whoever delivers reads on from there, and moves it forward
when an event has arrived or is given up. So the order is the log's, and a worker that dies leaves the place where it was.
"""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
from django.conf import settings
from django.db import transaction

from aipartnerupflow.executors import ExecutorError
from llmkeys.cipher import seal, unseal
from tasks.executors.http.safe_http import (
    HEADER_NAME,
    HEADER_VALUE,
    NOT_PUBLIC,
    RESERVED_HEADERS,
    Egress,
    judge_literal,
    parse_url,
)
from tasks.ids import new_id
from tasks.models import Run, Webhook
from tasks.queue import notify
from tasks.rules.exceptions import InvalidParams, LimitReached
from tasks.services.trees import Created, Execution

T = TypeVar("T", bound=Created | Execution)
Json = dict[str, Any]
Problem = tuple[str, str]

NATIVE: Final = "native"
MAX_URL_CHARACTERS: Final = 4_096
MAX_SECRET_CHARACTERS: Final = 4_096
MAX_HEADERS: Final = 32
OURS: Final = RESERVED_HEADERS | {"content-type"}
OUR_PREFIX: Final = "x-apflow-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What only a delivery, and the webhook's owner, may read."""

    token: str | None
    headers: Mapping[str, str]
    authentication: Mapping[str, Any] | None

    def __repr__(self) -> str:
        return "<Secrets>"


@transaction.atomic
def add_webhook(
    *,
    run: Run,
    url: str,
    kind: str = NATIVE,
    method: str = "POST",
    config_id: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    authentication: Mapping[str, Any] | None = None,
    after: int = 0,
) -> Webhook:
    """Send the run's events beyond `after` to the url, rendered as `kind` says. One with the same `config_id` is replaced.

    A native one without a token gets one of ours: it is signed in any case. `authentication` is for the renderer.
    Raises InvalidParams with the field, or LimitReached.
    """
    if found := list(problems(url=url, token=token, headers=headers, authentication=authentication)):
        raise InvalidParams(found)
    others = run.webhooks.exclude(config_id=config_id) if config_id else run.webhooks.all()
    if others.count() >= (most := settings.APFLOW.webhooks.max_per_run):
        raise LimitReached(f"A run has at most {most} webhooks (webhooks.max_per_run). Remove one of them first.")
    if config_id:
        remove_webhook(run, config_id=config_id)
    if token is None and kind == NATIVE:
        token = f"whsec_{secrets.token_urlsafe(32)}"
    webhook_id, now = new_id(), datetime.now(UTC)
    now_known = Run.objects.get(id=run.id)
    is_over = now_known.finished_at is not None and after >= now_known.last_seq
    webhook = Webhook.objects.create(
        id=webhook_id,
        run=run,
        kind=kind,
        config_id=config_id or webhook_id,
        url=url,
        host=parse_url(url).host.rstrip("."),
        method=method,
        sealed=_sealed(webhook_id, {"token": token, "headers": headers or {}, "authentication": authentication}),
        next_seq=after + 1,
        next_at=now,
        created_at=now,
        closed_at=now if is_over else None,
    )
    notify.send(notify.RUNS)
    return webhook


@transaction.atomic
def with_webhook(verb: Callable[..., T], webhook: Json, **arguments: Any) -> T:
    """Carry out a verb of `tasks.services.trees` that starts a run, and add the webhook to that run: both, or neither."""
    result = verb(**arguments)
    assert result.run is not None  # noqa: S101  (it was asked for)
    return replace(result, webhook=add_webhook(run=result.run, **webhook))


def webhooks_of(run: Run) -> Sequence[Webhook]:
    """The webhooks of a run, in the order in which they were added."""
    return list(run.webhooks.order_by("created_at", "id"))


def remove_webhook(run: Run, *, config_id: str) -> bool:
    """Send nothing more to it. False: there is none of that id."""
    deleted, _ = run.webhooks.filter(config_id=config_id).delete()
    return deleted > 0


def secrets_of(webhook: Webhook) -> Secrets:
    """Raises CannotUnseal."""
    return Secrets(**orjson.loads(unseal(webhook.sealed, context=_context(webhook.id))))


def problems(
    *,
    url: str,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    authentication: Mapping[str, Any] | None = None,
) -> Iterator[Problem]:
    """What is wrong with an address to be called, by field. No name server is asked: the host is judged at each delivery."""
    if why := _why_refused(url):
        yield "url", why
    if token is not None and not _is_header_value(token):
        yield "token", f"1 to {MAX_SECRET_CHARACTERS:,} printable ASCII characters"
    yield from _header_problems(headers or {})
    for name, value in (authentication or {}).items():
        values = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(each, str) and _is_header_value(each) for each in values):
            yield f"authentication.{name[:100]}", "printable ASCII characters only"


def egress() -> Egress:
    """Where webhooks may lead."""
    rules = settings.APFLOW.webhooks
    return Egress(
        allow_private=NOT_PUBLIC if rules.allow_private else (),
        allowed_ports=rules.allowed_ports,
        allow_private_by="set webhooks.allow_private to true",
        allowed_ports_key="webhooks.allowed_ports",
    )


def _why_refused(url: str) -> str | None:
    if len(url) > MAX_URL_CHARACTERS:
        return f"at most {MAX_URL_CHARACTERS:,} characters"
    try:
        judge_literal(parse_url(url), egress=egress())
    except ExecutorError as error:
        return str(error)
    return None


def _header_problems(headers: Mapping[str, str]) -> Iterator[Problem]:
    if len(headers) > MAX_HEADERS:
        yield "headers", f"at most {MAX_HEADERS}"
        return
    if twice := _doubled(headers):
        yield f"headers.{twice}", "given twice: the case of a header's name does not count"
    for name, value in headers.items():
        if why := _why_refused_header(name, value):
            yield f"headers.{name[:100]}", why


def _why_refused_header(name: str, value: str) -> str | None:
    if name.lower() in OURS or name.lower().startswith(OUR_PREFIX):
        return "is set by the server: leave it out"
    if not HEADER_NAME.fullmatch(name):
        return "not a header's name"
    return None if _is_header_value(value) else "printable ASCII characters only"


def _is_header_value(value: str) -> bool:
    return 0 < len(value) <= MAX_SECRET_CHARACTERS and HEADER_VALUE.fullmatch(value) is not None


def _doubled(headers: Collection[str]) -> str | None:
    seen: set[str] = set()
    for name in headers:
        if name.lower() in seen:
            return name[:100]
        seen.add(name.lower())
    return None


def _sealed(webhook_id: str, values: Json) -> str:
    return seal(orjson.dumps(values).decode(), context=_context(webhook_id))


def _context(webhook_id: str) -> str:
    return f"webhook:{webhook_id}"
