"""Events from outside, for tasks that wait for one."""

from typing import Any

import orjson
from django.conf import settings

from a2a.core.mapping import native_event
from a2a.core.parsing import Params, Problem, Text
from a2a.methods.method import OPERATOR, Response, Rest, Tool, method
from a2a.methods.results import DataResult
from accounts.callers import Caller
from tasks.services.waits import sent_events


class SendEvent(Params, frozen=True, kw_only=True):
    """events.send"""

    event: Text
    payload: Any = None
    id: Text | None = None
    """The id by which the event is known when it is sent again; default: a new one."""

    def contradictions(self) -> list[Problem]:
        most = settings.APFLOW.limits.event_bytes
        size = len(orjson.dumps(self.payload))
        too_long = ("payload", f"has {size:,} bytes as JSON, and at most {most:,} are allowed (limits.event_bytes)")
        return [*super().contradictions(), *([too_long] if size > most else [])]


class SentEvent(Response, frozen=True, kw_only=True):
    """An event that was sent. `woken` is how many waits took it; events with the same `id` are one."""

    event: str
    payload: Any
    id: str
    received_at: str
    woken: int


@method(
    "events.send",
    role=OPERATOR,
    answer=SentEvent,
    rest=[Rest("sendEvent", "POST events/", rules={"required": ["event"]})],
    tool=Tool(
        "send_event",
        "Send an event",
        "Send an event to your tasks that wait for one of this name and payload; their runs then "
        "continue. Sending it again with the same id changes nothing.",
    ),
)
async def send(caller: Caller, given: SendEvent) -> DataResult:
    """Send an event to the tasks of the caller that wait for it."""
    sent = await sent_events.send(caller=caller, event=given.event, payload=given.payload, event_id=given.id)
    return DataResult(native=native_event(sent))
