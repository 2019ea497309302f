"""Housekeeping: removes rows that nothing needs any more, a few at a time, and counts them.

Sessions, tokens, links and failed logins go when they have expired, idempotency keys after 24
hours, the log of webhook deliveries with the events that it is about (`events.keep_days`), events from
outside after `events.sent_days`, entries of the audit log after `retention.audit_days`, and trees as `retention` says.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from accounts.audit import old_entries
from accounts.logins import WINDOW
from accounts.models import LoginLink, LoginTry, SpentToken
from tasks.events import pruning
from tasks.executors.email.mail import old_counts
from tasks.models import WebhookDelivery
from tasks.services.spending import day_limits
from tasks.services.trees import idempotency
from tasks.services.upkeep import retention
from tasks.services.waits import sent_events
from tasks.telemetry import metrics

BATCH: Final = 1_000
"""The number of rows of a kind that one statement removes. It blocks other writers of SQLite meanwhile."""
BATCHES: Final = 10


def keep_house() -> bool:
    """Remove some of the rows of each kind. Returns whether there were any: then more may be left."""
    removed = {kind: _remove(expired) for kind, expired in EXPIRED.items()}
    removed |= {EVENTS: pruning.prune_events(), TREES: retention.prune_trees()}
    for kind, number in removed.items():
        metrics.removed(kind, number)
    return any(removed.values())


def _remove(expired: Callable[[], "QuerySet[Any] | None"]) -> int:
    """Remove rows of one kind, a batch at a time. Returns how many."""
    removed = 0
    for _ in range(BATCHES):
        number = _remove_batch(expired())
        removed += number
        if number < BATCH:
            break
    return removed


def _remove_batch(expired: "QuerySet[Any] | None") -> int:
    """Remove up to BATCH rows; their keys are read first, because a DELETE would take the write lock for nothing."""
    keys = [] if expired is None else list(expired.values_list("pk", flat=True)[:BATCH])
    if keys:
        expired.model.objects.filter(pk__in=keys).delete()  # type: ignore[union-attr]
    return len(keys)


def _old_deliveries() -> "QuerySet[WebhookDelivery] | None":
    """Return the oldest rows come first by id, so no index by time is needed. One that is retried is not old: it is updated."""
    keep_days = settings.APFLOW.events.keep_days
    if not keep_days:
        return None
    oldest = WebhookDelivery.objects.order_by("id").values_list("id", flat=True)[:BATCH]
    return WebhookDelivery.objects.filter(id__in=list(oldest), updated_at__lt=_now() - timedelta(days=keep_days))


def _now() -> datetime:
    return datetime.now(UTC)


EVENTS: Final = "events"
TREES: Final = "trees"
EXPIRED: Final[Mapping[str, Callable[[], "QuerySet[Any] | None"]]] = {
    "sessions": lambda: Session.objects.filter(expire_date__lt=_now()),
    "spent_tokens": lambda: SpentToken.objects.filter(expires_at__lt=_now()),
    "login_links": lambda: LoginLink.objects.filter(expires_at__lt=_now()),
    "login_tries": lambda: LoginTry.objects.filter(at__lte=_now() - WINDOW),
    "idempotency_keys": idempotency.old_keys,
    "webhook_deliveries": _old_deliveries,
    "sent_events": sent_events.old_events,
    "audit_entries": old_entries,
    "mail_counts": old_counts,
    "day_counts": day_limits.old_counts,
    "day_allowances": day_limits.old_allowances,
}
