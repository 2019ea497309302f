"""Waits for an event from outside, without a worker."""

from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, ParkedForEvent

DAY_SECONDS: Final = 86_400


class Event(Executor):
    """Parks its task until `events.send`, or a request to the wait's own address, brings the event."""

    id = "event_executor"
    name = "Event"
    description = (
        "Waits for an event that is sent with `events.send`, or to the address that `tasks.detail` shows. The wait "
        "occupies no worker and survives restarts. `match` says what the payload must contain."
    )
    tags = ("core", "wait")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "event": {"type": "string", "minLength": 1, "maxLength": 255, "description": "The name of the event"},
            "match": {
                "type": "object",
                "propertyNames": {"pattern": "^(/|$)"},
                "maxProperties": 10,
                "default": {},
                "description": "JSON Pointers into the payload → the values that must be there",
            },
            "timeout_seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 366 * DAY_SECONDS,
                "default": 7 * DAY_SECONDS,
            },
            "on_timeout": {
                "enum": ["fail", "complete"],
                "default": "fail",
                "description": "Whether the task fails after this time, or completes without an event",
            },
            "retain_seconds": {
                "type": "number",
                "minimum": 0,
                "maximum": 30 * DAY_SECONDS,
                "description": "The greatest age of an event from before the wait, in seconds. Default: since the run was created",
            },
        },
        "required": ["event"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "event": {"type": ["string", "null"], "description": "The name; null after a timeout"},
            "payload": {"description": "Any JSON value"},
            "id": {"type": ["string", "null"], "description": "The id that the sender gave the event"},
            "received_at": {"type": ["string", "null"], "description": "ISO 8601, in UTC"},
        },
        "required": ["event", "payload", "id", "received_at"],
    }
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {"event": "order.paid", "match": {"/order_id": "42"}, "timeout_seconds": 3 * DAY_SECONDS}
    example_result: ClassVar[Json] = {
        "event": "order.paid",
        "payload": {"order_id": "42", "amount": 99.5},
        "id": "evt_1",
        "received_at": "2027-01-31T08:00:00+00:00",
    }

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a `match` that is too long. The rest is a matter of the schema."""
        if isinstance(match := inputs.get("match"), dict):
            _parked("checked", match)

    async def execute(self, inputs: Json, context: Context) -> Json:
        if context.reply is not None:
            taken: Json = context.reply.answer or dict.fromkeys(("event", "payload", "id", "received_at"))
            return taken
        raise _parked(
            inputs["event"],
            inputs.get("match"),
            timeout_seconds=inputs.get("timeout_seconds", 7 * DAY_SECONDS),
            on_timeout=inputs.get("on_timeout", "fail"),
            retain_seconds=inputs.get("retain_seconds"),
        )


def _parked(event: str, match: Json | None, **options: Any) -> ParkedForEvent:
    """Raise ExecutorError."""
    try:
        return ParkedForEvent(event, match=match, **options)
    except ValueError as error:
        raise ExecutorError(f"inputs.match: {error}", permanent=True) from None
