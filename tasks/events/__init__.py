"""The read side: the only way to follow what happens in runs.

Events are rows first; a notification only hints at new ones. A subscriber reads past events from
the rows, and then receives new ones from the hub of its process. Sequence numbers are dense, so a
subscriber notices a gap and reads the rows again.
"""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from accounts.callers import Caller
from apflow_site.db import pools
from apflow_site.db.prepared import Prepared
from tasks.events.hub import Following, this_hub
from tasks.events.log import Event, read
from tasks.models import Run

__all__ = ["FEW", "Event", "end_of", "follow", "following", "pages", "read"]

FEW: Final = 20
"""Work for so many events of a page may be done on the event loop; for more, on a database thread."""


async def follow(run_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
    """Yield the events of the run after number `after`, past and new ones; ends after `final`.

    It also ends when the process stops, or when the next event has been pruned. Events are shared
    between subscribers: do not change them.
    """
    async with aclosing(pages(run_id, after=after)) as found:
        async for page in found:
            for event in page:
                yield event


async def pages(run_id: str, *, after: int = 0) -> AsyncGenerator[list[Event], None]:
    """Yield the same events as `follow`, those together that have been read together.

    A page of past events has hundreds: see FEW.
    """
    async with this_hub().of_run(run_id) as subscription:
        subscription.rewind(run_id, after=after)
        while events := await subscription.next():
            page = [event for seq, event in enumerate(events, after + 1) if event["seq"] == seq]
            if page:
                yield page
            if len(page) < len(events) or page[-1]["type"] == "final":
                return
            after += len(page)


def following(caller: Caller) -> Following:
    """Return a subscription to all future events of all the caller's runs; `rewind` adds past ones."""
    return this_hub().of_caller(caller)


async def end_of(run: Run, *, since: float = -math.inf) -> str | None:
    """Wait for the end of a run that had not ended at `since`, on the monotonic clock. Returns its status.

    Without a query, if this process has read all events since then. None: the process is stopping.
    """
    if run.finished_at is not None:
        return run.status
    return await this_hub().end_of(run.id, since=since, look=partial(pools.read, _status_at_end, run.id))


def _status_at_end(run_id: str) -> str | None:
    """Return the status of a run that has ended."""
    return next(iter(_STATUS_AT_END.first(run_id=run_id) or [None]))


_STATUS_AT_END: Final[Prepared[tuple[str]]] = Prepared(
    lambda *, run_id: Run.objects.filter(id=run_id, finished_at__isnull=False).values_list("status")
)
