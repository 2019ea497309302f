"""Waits for a time, without a worker."""

from datetime import datetime
from typing import ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, ParkedUntil
from tasks.rules.places import has_places

YEAR_SECONDS: Final = 366 * 86_400
A_TIME: Final = "must be a time in ISO 8601 with its zone, such as 2027-01-31T09:00:00+01:00"


class Wait(Executor):
    """Parks its task until a time. No worker is occupied meanwhile."""

    id = "wait_executor"
    name = "Wait"
    description = (
        "Waits for `seconds` or until a time, up to a year. The wait occupies no worker, survives restarts, and ends "
        "within a second of its time."
    )
    tags = ("core", "wait")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "seconds": {"type": "number", "minimum": 0, "maximum": YEAR_SECONDS},
            "until": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "description": "A time in ISO 8601 with its zone. If it is past, the task completes at once",
            },
        },
        "oneOf": [{"required": ["seconds"]}, {"required": ["until"]}],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "waited_until": {"type": "string", "description": "ISO 8601, in UTC"},
            "seconds": {"type": "number", "description": "The length of the wait"},
        },
        "required": ["waited_until", "seconds"],
    }
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {"seconds": 3}
    example_result: ClassVar[Json] = {"waited_until": "2027-01-31T08:00:00+00:00", "seconds": 3}

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a time that is none, unless a result fills it in."""
        until = inputs.get("until")
        if isinstance(until, str) and not has_places(until):
            _moment(until)

    async def execute(self, inputs: Json, context: Context) -> Json:
        if context.reply is not None:
            waited: Json = context.reply.answer
            return waited
        if "seconds" in inputs:
            raise ParkedUntil(seconds=inputs["seconds"])
        raise ParkedUntil(_moment(inputs["until"]))


def _moment(text: str) -> datetime:
    """Raise ExecutorError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and (moment - datetime.now(moment.tzinfo)).total_seconds() <= YEAR_SECONDS:
            return moment
    except (ValueError, OverflowError):
        pass
    raise ExecutorError(f"inputs.until {A_TIME}, and at most a year away.", permanent=True)
