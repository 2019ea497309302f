"""Suspicion: which runs are held responsible for the death of a worker, and what follows from it.

A *strike* is a death while the run's code was executing (`tasks.queue.black_box`), or while the run
was alone in the process. A *loss* is any death with the run in hand. After one strike, or after
three losses in a row, the run is suspected: workers leave it to a process of its own
(`tasks.worker.quarantine`). As soon as a task of it has ended there, the run is cleared and returns
to the others. Without such progress it is poison after three deaths alone: the task that killed the
worker fails. Its neighbours only wait until another worker continues them.

A worker that lives has lost nothing: when the database does not answer, a machine sleeps or a
worker is drained, its runs change hands without a loss.
"""

from collections.abc import Collection
from typing import Final

from django.db.models import Case, F, Q, Value, When

from tasks.models import RunQuerySet

SUSPICIOUS_LOSSES: Final = 3
CONVICTED_STRIKES: Final = 2
"""It has killed a process that it had for itself, and so stays alone to its end, one task at a time."""
POISON_STRIKES: Final = 4

IS_SUSPECTED: Final = f"(strikes > 0 OR losses >= {SUSPICIOUS_LOSSES})"
SUSPECTED: Final = Q(strikes__gt=0) | Q(losses__gte=SUSPICIOUS_LOSSES)
CLEAR: Final = (
    "UPDATE tasks_run SET losses = 0, "  # noqa: S608  (constants of this module)
    f"strikes = CASE WHEN strikes >= {CONVICTED_STRIKES} THEN {CONVICTED_STRIKES} ELSE 0 END WHERE id = %s"
)
"""The statement for a run that has made progress. Who was convicted once stays alone."""


def blame(held: RunQuerySet, culprits: Collection[str]) -> None:
    """Count the death of their worker against the runs: a loss for each, a strike for the culprits.

    A suspected run was alone, so no one else can have been the cause.
    """
    is_culprit = SUSPECTED | Q(id__in=list(culprits))
    held.update(losses=F("losses") + 1, strikes=F("strikes") + Case(When(is_culprit, then=Value(1)), default=Value(0)))
