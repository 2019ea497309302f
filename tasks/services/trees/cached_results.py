"""The cache of results for its owners, and its bounds."""

from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from django.conf import settings
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum, Window
from django.db.models.functions import Now, RowNumber

from accounts.callers import Caller
from tasks.models import CachedResult, Flow, Run

MOST_AT_ONCE: Final = 1_000


class OfExecutor(NamedTuple):
    """The results of the tasks of an executor: how many, their bytes, and when the first and the latest was stored."""

    executor: str
    results: int
    bytes: int
    oldest: datetime
    newest: datetime


def list_cached(caller: Caller) -> list[OfExecutor]:
    """Return what is in the cache of the caller, or of all users, by executor; the largest first."""
    rows = CachedResult.objects.for_caller(caller).filter(expires_at__gt=Now()).order_by()
    sums = rows.values_list("executor_id").annotate(
        results=Count("key"), total=Sum("size"), oldest=Min("stored_at"), newest=Max("stored_at")
    )
    return sorted((OfExecutor(*row) for row in sums), key=lambda row: (-row.bytes, row.executor))


def clear(caller: Caller, *, executor: str | None = None, flow: str | None = None) -> int:
    """Remove results of the caller, or of all users: of an executor, of runs of a flow, or all. Returns how many."""
    rows = CachedResult.objects.for_caller(caller)
    if executor is not None:
        rows = rows.filter(executor_id=executor)
    if flow is not None:
        flows = Flow.objects.for_caller(caller).filter(name=flow)
        rows = rows.filter(run_id__in=Run.objects.filter(flow_id__in=flows.values("id")).values("id"))
    count, _ = rows.delete()
    return count


def surplus() -> "QuerySet[CachedResult]":
    """Return results that are too old, or beyond what their user may have (`cache`)."""
    most = settings.APFLOW.cache
    sums = CachedResult.objects.order_by().values_list("user_id").annotate(Count("key"), Sum("size"))
    over = [user for user, count, size in sums if count > most.entries_per_user or size > most.bytes_per_user]
    expired = CachedResult.objects.filter(expires_at__lte=Now())
    if not over:
        return expired
    newest_first = partial(Window, partition_by="user_id", order_by=[F("stored_at").desc(), F("key")])
    ranked = CachedResult.objects.filter(user_id__in=over).annotate(
        number=newest_first(RowNumber()), total=newest_first(Sum("size"))
    )
    beyond = ranked.filter(Q(number__gt=most.entries_per_user) | Q(total__gt=most.bytes_per_user))
    return CachedResult.objects.filter(
        Q(expires_at__lte=Now()) | Q(key__in=beyond.values_list("key", flat=True)[:MOST_AT_ONCE])
    )
