"""Prune old events and model calls of runs that ended long ago: a few at a time, a run's oldest events first.

The position of a sweep through the past is stored, so that the next one does not begin at the start again: all but the
newest of a million runs that ended long ago have been pruned, and looking at each of them takes seconds.
"""

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from tasks.models import InstallationFact, ModelCall, Run, TaskEvent

PREFIX: Final = "swept_"
STEP: Final = timedelta(minutes=1)
"""The progress is stored in steps, not at every sweep."""
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
BATCH: Final = 2_000
"""The number of events one transaction removes. It blocks other writers meanwhile."""
CALLS: Final = 200
"""The number of model calls: each may have 64 KiB."""
RUNS: Final = 500
SWEEP: Final = "events"


def swept_until(sweep: str) -> datetime:
    """Return the time before which the sweep has found everything."""
    fact = InstallationFact.objects.filter(name=PREFIX + sweep).first()
    return datetime.fromisoformat(fact.value) if fact else BEGINNING


def note_sweep(sweep: str, until: datetime, *, since: datetime) -> None:
    """Store that the sweep has found everything before this time; it began at `since`."""
    if until - since >= STEP:
        values = {"value": until.isoformat(), "updated_at": datetime.now(UTC)}
        InstallationFact.objects.update_or_create(name=PREFIX + sweep, defaults=values)


def forget_sweeps() -> None:
    """Let all sweeps begin at the start: rows were added to the past."""
    InstallationFact.objects.filter(name__startswith=PREFIX).delete()


def prune_events(*, give_up_at: float = 0.0) -> int:
    """Delete a batch of the events and model calls of runs that ended more than `events.keep_days` ago.

    Until `give_up_at` it continues with the next batch. Returns how many.
    """
    keep_days = settings.APFLOW.events.keep_days
    if not keep_days:
        return 0
    before, since = datetime.now(UTC) - timedelta(days=keep_days), swept_until(SWEEP)
    removed = 0
    while True:
        count, since = remove_batch(before, since=since)
        removed += count
        if not count or monotonic() >= give_up_at:
            return removed


def remove_batch(before: datetime, *, since: datetime) -> tuple[int, datetime]:
    """Delete events of some runs that ended between these times, and before them their model calls.

    Returns how many, and the time before which no run has any.
    """
    kept = TaskEvent.objects.filter(run_id=OuterRef("id"))
    runs = Run.objects.filter(Exists(kept), finished_at__gte=since, finished_at__lt=before).order_by("finished_at")
    first = list(runs.values_list("id", "finished_at")[:RUNS])
    until = first[0][1] or before if first else before
    note_sweep(SWEEP, until, since=since)
    run_ids = [run_id for run_id, _ in first]
    count = _delete(ModelCall.objects.filter(run_id__in=run_ids).order_by("run_id"), most=CALLS)
    if count < CALLS:  # the events are deleted last: by them the runs are found
        count += _delete(TaskEvent.objects.filter(run_id__in=run_ids).order_by("run_id", "seq"), most=BATCH)
    return count, until


def _delete(rows: "QuerySet[Any]", *, most: int) -> int:
    """Delete the first of these rows. Their ids are read first: SQLite locks out other writers meanwhile."""
    ids = list(rows.values_list("id", flat=True)[:most])
    return rows.model.objects.filter(id__in=ids).delete()[0] if ids else 0


def is_pruned(run: Run, *, after: int) -> bool:
    """Return whether an event after number `after` of a finished run has been pruned."""
    if run.finished_at is None or not 0 <= after <= run.last_seq or not run.last_seq:
        return False
    wanted = min(after + 1, run.last_seq)
    return not TaskEvent.objects.filter(run_id=run.id, seq=wanted).exists()
