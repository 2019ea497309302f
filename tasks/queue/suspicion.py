"""Suspicion: which runs are held responsible for the death of a worker, and what follows from it.

A *strike* is a death while the run's code was executing (`tasks.queue.black_box`), or while the run
was alone in the process. A *loss* is any death with the run in hand. After one strike, or after
three losses in a row, the run is suspected: workers leave it to a process of its own
(`tasks.worker.quarantine`). As soon as a task of it has ended there, the run is cleared and returns
to the others. Without such progress it is poison after three deaths alone: the task that killed the
worker fails. Its neighbours only wait until another worker continues them. One that has stayed
alive for `worker.quarantine_seconds` makes room for the next, and goes on beside it.

Only a death that the supervisor of the worker has seen, and survived, counts so. If the supervisor
is gone, too, the whole server was killed or the machine has lost its power: that is a *host loss*.
It is counted, and is no evidence against anybody.

A worker that lives has lost nothing: when the database does not answer, a machine sleeps or a
worker is drained, its runs change hands without a loss.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import F, Q
from django.db.models.functions import Now

from tasks.models import RunQuerySet

SUSPICIOUS_LOSSES: Final = 3
CONVICTED_STRIKES: Final = 2
"""It has killed a process that it had for itself, and so stays alone to its end, one task at a time."""
POISON_STRIKES: Final = 4

IS_SUSPECTED: Final = f"(strikes > 0 OR losses >= {SUSPICIOUS_LOSSES})"
SHOWN_DEATHS: Final = 10
"""The number of strikes of which a run keeps the evidence: the latest ones."""
CLEAR: Final = (
    "UPDATE tasks_run SET losses = 0, "  # noqa: S608  (constants of this module)
    f"suspected_at = CASE WHEN strikes >= {CONVICTED_STRIKES} THEN suspected_at END, "
    f"strikes = CASE WHEN strikes >= {CONVICTED_STRIKES} THEN {CONVICTED_STRIKES} ELSE 0 END WHERE id = %(run_id)s"
)
"""The statement for a run that has made progress. A run that was convicted once stays alone."""


def is_suspected(*, losses: int, strikes: int) -> bool:
    """Return whether a run with such a record is left to the quarantine."""
    return strikes > 0 or losses >= SUSPICIOUS_LOSSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of a worker process; `exit_code` as in `tasks.queue.black_box.End`."""

    process: str
    exit_code: int


def blame(held: RunQuerySet, culprits: Mapping[str, bool], death: Death) -> None:
    """Count the death of their worker against the runs: a loss for each, a strike for the culprits.

    These say whether their code was executing; else the run was in the process to find out whether it dies.
    """
    held.update(losses=F("losses") + 1)
    for run in held.filter(id__in=list(culprits)):
        evidence = asdict(death) | {"at": datetime.now(UTC).isoformat(), "was_executing": culprits[run.id]}
        deaths = [*(run.deaths or ()), evidence][-SHOWN_DEATHS:]
        held.filter(id=run.id).update(strikes=F("strikes") + 1, deaths=deaths)
    is_suspect = Q(strikes__gt=0) | Q(losses__gte=SUSPICIOUS_LOSSES)
    held.filter(is_suspect, suspected_at=None).update(suspected_at=Now())


def count_host_loss(held: RunQuerySet) -> None:
    """Count that the runs have lost their worker together with all that watched it."""
    held.update(host_losses=F("host_losses") + 1)
