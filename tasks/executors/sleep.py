"""Waits, and reports progress."""

import asyncio
from typing import ClassVar

from aipartnerupflow.executors import Context, Executor, Json


class Sleep(Executor):
    """Waits `seconds` in `steps` equal parts, with progress after each."""

    id = "sleep_executor"
    name = "Sleep"
    description = "Waits for a number of seconds, in steps, and reports progress after each step."
    tags = ("demo", "test")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "seconds": {"type": "number", "minimum": 0, "maximum": 86_400, "default": 1},
            "steps": {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 1},
        },
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {"slept_seconds": {"type": "number", "description": "The seconds that the task slept"}},
        "required": ["slept_seconds"],
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"seconds": 3, "steps": 3}
    example_result: ClassVar[Json] = {"slept_seconds": 3}

    async def execute(self, inputs: Json, context: Context) -> Json:
        seconds = inputs.get("seconds", 1)
        steps = int(inputs.get("steps", 1))  # JSON Schema accepts 3.0 as an integer
        for done in range(1, steps + 1):
            await asyncio.sleep(seconds / steps)
            if done < steps:  # the last step ends the task, which has its own event
                context.report(done / steps, f"step {done} of {steps}")
        return {"slept_seconds": seconds}
