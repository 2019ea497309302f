"""The one read side: whoever wants to know what happens follows it here.

Events are rows first; the doorbell only says that there are new ones. A follower reads what happened from the rows, and then gets what
happens from the hub of its process. Sequence numbers are dense, so a follower sees when it missed something, and reads the rows again.
"""

from collections.abc import AsyncGenerator

from accounts.callers import Caller
from tasks.events.hub import Following, this_hub
from tasks.events.log import Event, read

__all__ = ["Event", "follow", "following", "read"]


async def follow(run_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
    """All events of the run beyond `after`: those that happened, then each as it happens. Ends after `final`.

    It also ends when the process is told to stop, or when what comes next has been pruned. The events are shared between followers: do not
    change them.
    """
    async with this_hub().of_run(run_id) as inbox:
        inbox.rewind(run_id, after=after)
        while events := await inbox.next():
            for event in events:
                if event["seq"] != after + 1:
                    return
                yield event
                if event["type"] == "final":
                    return
                after += 1


def following(caller: Caller) -> Following:
    """An inbox for all events of all the caller's runs from now on; `rewind` adds what happened before."""
    return this_hub().of_caller(caller)
