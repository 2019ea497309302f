"""Events from outside, for tasks that wait for one."""

from a2a.core.mapping import native_event
from a2a.methods import params
from a2a.methods.results import DataResult
from accounts.callers import Caller
from tasks.services.waits import sent_events


async def send(caller: Caller, given: params.SendEvent) -> DataResult:
    """Send an event to the tasks of the caller that wait for it."""
    sent = await sent_events.send(caller=caller, event=given.event, payload=given.payload, event_id=given.id)
    return DataResult(native=native_event(sent))
