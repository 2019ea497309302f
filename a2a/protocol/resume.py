"""Subscriptions that continue after an update that the client has, without a gap."""

from a2a.core.exceptions import EventsGone
from tasks.models import Run, TaskEvent
from tasks.rules.exceptions import InvalidParams


def check_after(run: Run, after: int) -> None:
    """Raise InvalidParams if the run has not come so far, or EventsGone if its next events were deleted."""
    if after > run.last_seq:
        raise InvalidParams(
            [("after", f"must be at most {run.last_seq}, the number of the newest update of this task")]
        )
    kept = TaskEvent.objects.filter(run_id=run.id, seq__gt=after, seq__lte=run.last_seq).order_by("seq")
    first = kept.values_list("seq", flat=True).first() or run.last_seq + 1
    if first > after + 1:
        raise EventsGone(run.id, first=after + 1, last=first - 1)
