"""Housekeeping: removes rows that nothing needs any more, a few at a time, and counts them.

Sessions, tokens, links and failed logins go when they have expired, idempotency keys after 24
hours, the log of webhook deliveries with the events that it is about (`events.keep_days`), events from
outside after `events.sent_days`, deliveries to inbound hooks after `retention.hook_delivery_days`, and entries of the audit log after `retention.audit_days`.

Trees whose last run ended long ago (`retention`) go unless they have `params.keep`: many small ones in a
transaction, which ends soon, so that other writers get their turn in between. Files go when no tree and no flow has
named them for `retention.unused_file_days`, and unfinished uploads after `files.upload_hours`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from time import monotonic
from typing import Any, Final

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import BooleanField, Exists, F, Func, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from accounts.audit import old_entries
from accounts.logins import WINDOW
from accounts.models import LoginLink, LoginTry, SpentToken
from apflow_site.db.connections import plan_by_values
from tasks.events import pruning
from tasks.executors.email.mail import old_counts
from tasks.models import DayAllowance, DayCount, Run, RunCount, Schedule, SentEvent, Task, WebhookDelivery
from tasks.services import files, hooks
from tasks.services.history import run_counts
from tasks.services.trees import cached_results, idempotency
from tasks.services.trees.editing import remove_trees
from tasks.services.waits import equal_calls, sent_events
from tasks.status import Status
from tasks.telemetry import metrics

TREES_AT_ONCE: Final = 200
"""The most trees that one transaction deletes."""
EVENTS_AT_ONCE: Final = 2_000
"""The most events of the last runs of trees that one transaction deletes, unless one run has more."""
SECONDS: Final = 1.0
"""The time for which one call prunes events and trees. The sweep for expired leases waits meanwhile."""
BATCH: Final = 1_000
"""The number of rows of a kind that one statement removes. It blocks other writers of SQLite meanwhile."""
BATCHES: Final = 10
EVENTS: Final = "events"
TREES: Final = "trees"
FILES: Final = "files"


def prune_trees(*, give_up_at: float = 0.0) -> int:
    """Delete trees that need not be kept any longer, a batch of each status and more until this moment. Returns how many."""
    now, retention = datetime.now(UTC), settings.APFLOW.retention
    kept_days = {
        Status.COMPLETED: retention.completed_days,
        Status.FAILED: retention.failed_days,
        Status.CANCELLED: retention.cancelled_days,
    }
    befores = {status: now - timedelta(days=days) for status, days in kept_days.items() if days}
    return sum(prune(status, before=before, give_up_at=give_up_at) for status, before in befores.items())


def prune(status: Status, *, before: datetime, give_up_at: float = 0.0) -> int:
    """Delete a batch of the trees that ended like this before that time, and more until `give_up_at`. Returns how many."""
    sweep = f"{status}_trees"
    since = pruning.swept_until(sweep)
    removed = 0
    while True:
        first = _first_expired(status, before, since)
        pruning.note_sweep(sweep, first[0].finished_at or before if first else before, since=since)
        events = accumulate(run.last_seq for run in first)
        few = [run for run, total in zip(first, events, strict=True) if total <= EVENTS_AT_ONCE] or first[:1]
        count = _delete(few, status, before=before) if few else 0
        removed += count
        if not count or monotonic() >= give_up_at:
            return removed


@transaction.atomic
def _first_expired(status: Status, before: datetime, since: datetime) -> list[Run]:
    """Return some last runs of such trees that ended between these times, the oldest first."""
    plan_by_values()
    expired = _expired(status, before).filter(finished_at__gte=since).order_by("finished_at")
    return list(expired.only("root_id", "finished_at", "last_seq")[:TREES_AT_ONCE])


def _expired(status: Status, before: datetime) -> "QuerySet[Run]":
    """Return the last runs of trees, if they ended like this before that time.

    A database without statistics would search
    the index of the status, which nearly all runs share: COALESCE keeps it from that. PostgreSQL would answer an EXISTS
    for all old runs at once.
    """
    later = Run.objects.filter(root_id=OuterRef("root_id"), number__gt=OuterRef("number"))
    kept = Task.objects.filter(id=OuterRef("root_id"), params__contains='"keep"').filter(IsKept())
    scheduled = Schedule.objects.filter(task_id=OuterRef("root_id"))
    ended = Run.objects.alias(ended_as=Coalesce("status", Value(""))).filter(ended_as=status, finished_at__lt=before)
    found = ended.exclude(root_id=F("id")).alias(
        later=Subquery(later.values("id")[:1]),
        kept=Subquery(kept.values("id")[:1]),
        scheduled=Subquery(scheduled.values("id")[:1]),
    )
    return found.filter(later=None, kept=None, scheduled=None)


class IsKept(Func):
    """Whether `params.keep` of a task is true, in SQL. Both databases parse the text, so use it for few rows."""

    output_field = BooleanField()

    def __init__(self) -> None:
        super().__init__(F("params"))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="json_extract(%(expressions)s, '$.keep') = 1", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::json ->> 'keep' = 'true'", **context)


@transaction.atomic
def _delete(runs: Sequence[Run], status: Status, *, before: datetime) -> int:
    """Delete the trees of these last runs, but for those that others use or that have started again. Returns how many."""
    root_ids = Task.objects.hold_trees([run.root_id for run in runs])
    unfinished = Run.objects.unfinished().filter(root_id=OuterRef("root_id"))
    expired = _expired(status, before).filter(
        ~Exists(unfinished), id__in=[run.id for run in runs], root_id__in=root_ids
    )
    if expired_ids := list(expired.values_list("root_id", flat=True)):
        remove_trees(expired_ids)
    return len(expired_ids)


def keep_house() -> bool:
    """Remove some of the rows of each kind. Returns whether there were any: then more may be left."""
    removed = {kind: _remove(expired) for kind, expired in EXPIRED.items()}
    give_up_at = monotonic() + SECONDS
    removed |= {EVENTS: pruning.prune_events(give_up_at=give_up_at), TREES: prune_trees(give_up_at=give_up_at)}
    removed[FILES] = files.sweep_files(give_up_at=give_up_at)
    for kind, number in removed.items():
        metrics.removed(kind, number)
    return any(removed.values())


def _remove(expired: Callable[[], "QuerySet[Any] | None"]) -> int:
    """Remove rows of one kind, a batch at a time. Returns how many."""
    removed = 0
    for _ in range(BATCHES):
        rows = expired()
        # The keys are read first, because a DELETE would take the write lock for nothing.
        keys = [] if rows is None else list(rows.values_list("pk", flat=True)[:BATCH])
        if rows is not None and keys:
            if rows.model is SentEvent:
                sent_events.forget(keys)
            else:
                rows.model.objects.filter(pk__in=keys).delete()
        removed += len(keys)
        if len(keys) < BATCH:
            break
    return removed


def _old_deliveries() -> "QuerySet[WebhookDelivery] | None":
    """Return the oldest rows come first by id, so no index by time is needed. One that is retried is not old: it is updated."""
    keep_days = settings.APFLOW.events.keep_days
    if not keep_days:
        return None
    oldest = WebhookDelivery.objects.order_by("id").values_list("id", flat=True)[:BATCH]
    return WebhookDelivery.objects.filter(id__in=list(oldest), updated_at__lt=_now() - timedelta(days=keep_days))


def _now() -> datetime:
    return datetime.now(UTC)


EXPIRED: Final[Mapping[str, Callable[[], "QuerySet[Any] | None"]]] = {
    "sessions": lambda: Session.objects.filter(expire_date__lt=_now()),
    "spent_tokens": lambda: SpentToken.objects.filter(expires_at__lt=_now()),
    "login_links": lambda: LoginLink.objects.filter(expires_at__lt=_now()),
    "login_tries": lambda: LoginTry.objects.filter(at__lte=_now() - WINDOW),
    "idempotency_keys": idempotency.old_keys,
    "webhook_deliveries": _old_deliveries,
    "hook_deliveries": hooks.old_deliveries,
    "sent_events": sent_events.old_events,
    "audit_entries": old_entries,
    "mail_counts": old_counts,
    "cached_results": cached_results.surplus,
    "calls_in_flight": equal_calls.void_calls,
    "day_counts": lambda: DayCount.objects.filter(day__lt=_now().date()),
    "day_allowances": lambda: DayAllowance.objects.filter(day__lt=_now().date()),
    "run_counts": lambda: RunCount.objects.filter(hour__lt=run_counts.number_of(_now() - run_counts.KEPT)),
}
