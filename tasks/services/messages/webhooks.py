"""Webhooks: the URLs that receive the events of a run, and the position of each.

A webhook is a position in the run's event log. Nothing is queued for it: a worker delivers from
there and advances the position when an event is delivered or given up. So events keep the order of
the log, and the position survives a worker that dies.
"""

import secrets
import string
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from aipartnerupflow.executors import ExecutorError
from apflow_site.db.turns import has_room
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
from tasks.rules.exceptions import InvalidParams, LimitReached, RunNotFound
from tasks.rules.strict_json import Json
from tasks.services.history import own_run
from tasks.services.trees import Created, Execution

T = TypeVar("T", bound=Created | Execution)
Problem = tuple[str, str]

NATIVE: Final = "native"
TO_URL: Final = "failure"
BY_MAIL: Final = "failure_email"
TO_SLACK: Final = "failure_slack"
QUESTION_TO_URL: Final = "question"
QUESTION_BY_MAIL: Final = "question_email"
QUESTION_TO_SLACK: Final = "question_slack"
ASSIGNED_TO_URL: Final = "assigned"
ASSIGNED_BY_MAIL: Final = "assigned_email"
ASSIGNED_TO_SLACK: Final = "assigned_slack"
JUDGE_TO_URL: Final = "judge"
JUDGE_BY_MAIL: Final = "judge_email"
JUDGE_TO_SLACK: Final = "judge_slack"
OF_OTHERS: Final = frozenset({ASSIGNED_TO_URL, ASSIGNED_BY_MAIL, ASSIGNED_TO_SLACK})
"""The kinds of those that belong to an assignee of a question, and not to the owner of the run."""
MAILS: Final = frozenset({BY_MAIL, QUESTION_BY_MAIL, ASSIGNED_BY_MAIL, JUDGE_BY_MAIL})
OF_NOTIFICATIONS: Final = (
    frozenset({TO_URL, TO_SLACK, QUESTION_TO_URL, QUESTION_TO_SLACK, JUDGE_TO_URL, JUDGE_TO_SLACK}) | MAILS | OF_OTHERS
)
"""The kinds of webhooks that `tasks.services.messages.notifications` adds: each sends one message, about one event."""
MAX_URL_CHARACTERS: Final = 4_096
MAX_SECRET_CHARACTERS: Final = 4_096
MAX_HEADERS: Final = 32
OURS: Final = RESERVED_HEADERS | {"content-type"}
OUR_PREFIXES: Final = ("x-apflow-", "webhook-")
KEY_CHARACTERS: Final = string.ascii_letters + string.digits
KEY_LENGTH: Final = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The parts of a webhook that only deliveries and its owner may read."""

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
    actor: str | None = None,
    is_recorded: bool = True,
) -> Webhook:
    """Send the run's events after number `after` to the URL, rendered as `kind`.

    Replaces one with the same `config_id`.

    A native webhook without a token gets a generated one, since its requests are always signed.
    `authentication` is for the renderer. `actor` adds it, by default the owner of the run.
    `is_recorded`: in the audit log. Raises InvalidParams with the field, RunNotFound or LimitReached.
    """
    if found := list(problems(url=url, token=token, headers=headers, authentication=authentication)):
        raise InvalidParams(found)
    others = run.webhooks.exclude(kind__in=OF_NOTIFICATIONS).exclude(config_id=config_id or "")
    if not has_room(others, of=run.id, most=(most := settings.APFLOW.webhooks.max_per_run)):
        raise LimitReached(
            f"A run has at most {most} webhooks (webhooks.max_per_run). "
            "Delete one of them first: webhooks.list and webhooks.delete."
        )
    if config_id:
        remove_webhook(run, config_id=config_id, actor=actor)
    if token is None and kind == NATIVE:
        token = new_signing_key()
    webhook_id, now = new_id(), datetime.now(UTC)
    now_known = Run.objects.filter(id=run.id).first()
    if now_known is None:  # deleted since the caller read it
        raise RunNotFound(run.id)
    is_over = now_known.finished_at is not None and after >= now_known.last_seq
    values: Json = {"token": token, "headers": headers or {}, "authentication": authentication}
    webhook = Webhook.objects.create(
        id=webhook_id,
        run=run,
        kind=kind,
        config_id=config_id or webhook_id,
        url=url,
        host=parse_url(url).host.rstrip("."),
        method=method,
        sealed=seal(orjson.dumps(values).decode(), context=context_of(webhook_id)),
        next_seq=after + 1,
        next_at=now,
        created_at=now,
        closed_at=now if is_over else None,
    )
    if is_recorded:
        record(Action.WEBHOOK_ADDED, webhook, run, actor=actor)
    notify.send(notify.RUNS)
    return webhook


@transaction.atomic
def with_webhook(verb: Callable[..., T], webhook: Json, **arguments: Any) -> T:
    """Call a function of `tasks.services.trees`, and add the webhook to the run: both or neither.

    It is a part of the run, so the audit log has no entry for it.
    """
    result = verb(**arguments)
    assert result.run is not None  # noqa: S101  (the function starts a run)
    added = add_webhook(run=result.run, is_recorded=False, **webhook)
    return replace(result, webhook=added)


def webhooks_of(run: Run) -> Sequence[Webhook]:
    """Return the webhooks of the owner of a run, in the order in which they were added."""
    return list(run.webhooks.exclude(kind__in=OF_OTHERS).order_by("created_at", "id"))


@transaction.atomic
def remove_webhook(run: Run, *, config_id: str, actor: str | None = None) -> bool:
    """Stop deliveries and delete the webhook. False: there is none with that id."""
    found = list(run.webhooks.filter(config_id=config_id))
    for webhook in found:
        webhook.delete()
        record(Action.WEBHOOK_DELETED, webhook, run, actor=actor)
    return bool(found)


def record(action: Action, webhook: Webhook, run: Run, *, actor: str | None) -> None:
    """Record a change by its host: the rest of a URL may contain a secret."""
    actor = run.user_id if actor is None else actor
    audit.record(action, actor=actor, target=run.id, owner=run.user_id, host=webhook.host, kind=webhook.kind)


def new_signing_key() -> str:
    """Return a key as Standard Webhooks writes it: `whsec_` and 33 bytes in Base64, without the characters that end a word."""
    return "whsec_" + "".join(secrets.choice(KEY_CHARACTERS) for _ in range(KEY_LENGTH))


def secrets_of(webhook: Webhook) -> Secrets:
    """Decrypt the secrets of a webhook. Raises CannotUnseal.

    One for a notification has the seal of that, whose id its `config_id` begins with.
    """
    sealed_for = webhook.config_id.partition(":")[0] if webhook.kind in OF_NOTIFICATIONS else webhook.id
    return Secrets(**orjson.loads(unseal(webhook.sealed, context=context_of(sealed_for))))


def problems(
    *,
    url: str,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    authentication: Mapping[str, Any] | None = None,
) -> Iterator[Problem]:
    """Yield what is invalid in a webhook, by field.

    No DNS: the host's addresses are checked at each delivery.
    """
    if why := _why_refused(url):
        yield "url", why
    if token is not None and not _is_header_value(token):
        yield "token", f"must be 1 to {MAX_SECRET_CHARACTERS:,} printable ASCII characters"
    yield from _header_problems(headers or {})
    for name, value in (authentication or {}).items():
        values = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(text, str) and _is_header_value(text) for text in values):
            yield f"authentication.{name[:100]}", "must have only printable ASCII characters"


def egress() -> Egress:
    """Return the rules for the addresses that webhooks may use."""
    rules = settings.APFLOW.webhooks
    return Egress(
        allow_private=NOT_PUBLIC if rules.allow_private else (),
        allowed_ports=rules.allowed_ports,
        allow_private_by="set webhooks.allow_private to true",
        allowed_ports_key="webhooks.allowed_ports",
        any_private_port=True,
    )


def _why_refused(url: str) -> str | None:
    if len(url) > MAX_URL_CHARACTERS:
        return f"must have at most {MAX_URL_CHARACTERS:,} characters"
    try:
        judge_literal(parse_url(url), egress=egress())
    except ExecutorError as error:
        return str(error)
    return None


def _header_problems(headers: Mapping[str, str]) -> Iterator[Problem]:
    if len(headers) > MAX_HEADERS:
        yield "headers", f"must have at most {MAX_HEADERS} entries"
        return
    if twice := _repeated(headers):
        yield f"headers.{twice}", "is given twice: header names are not case-sensitive"
    for name, value in headers.items():
        if name.lower() in OURS or name.lower().startswith(OUR_PREFIXES):
            yield f"headers.{name[:100]}", "is set by the server: leave it out"
        elif not HEADER_NAME.fullmatch(name):
            yield f"headers.{name[:100]}", "is not a valid header name"
        elif not _is_header_value(value):
            yield f"headers.{name[:100]}", "must have only printable ASCII characters"


def _is_header_value(value: str) -> bool:
    return 0 < len(value) <= MAX_SECRET_CHARACTERS and HEADER_VALUE.fullmatch(value) is not None


def _repeated(headers: Collection[str]) -> str | None:
    seen: set[str] = set()
    for name in headers:
        if name.lower() in seen:
            return name[:100]
        seen.add(name.lower())
    return None


def context_of(webhook_id: str) -> str:
    """Return the context in which the texts of a webhook are encrypted."""
    return f"webhook:{webhook_id}"


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
