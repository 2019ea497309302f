"""The position of a sweep through the past, so that the next one does not begin at the start again.

All but the newest of a million runs that ended long ago have been pruned; looking at each of them takes seconds.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.models import InstallationFact

PREFIX: Final = "swept_"
STEP: Final = timedelta(hours=1)
"""The progress is stored in steps, not at every sweep."""
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


def reached(sweep: str) -> datetime:
    """Return the time before which the sweep has found everything."""
    fact = InstallationFact.objects.filter(name=PREFIX + sweep).first()
    return datetime.fromisoformat(fact.value) if fact else BEGINNING


def note(sweep: str, until: datetime, *, since: datetime) -> None:
    """Store that the sweep has found everything before this time; it began at `since`."""
    if until - since >= STEP:
        values = {"value": until.isoformat(), "updated_at": datetime.now(UTC)}
        InstallationFact.objects.update_or_create(name=PREFIX + sweep, defaults=values)


def forget() -> None:
    """Let all sweeps begin at the start: rows were added to the past."""
    InstallationFact.objects.filter(name__startswith=PREFIX).delete()
