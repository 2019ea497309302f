"""Asks a person for approval and waits for the answer."""

from typing import ClassVar

from aipartnerupflow.executors import Context, Executor, Json, Parked

MONTH_SECONDS = 30 * 86_400


class Approval(Executor):
    """Waits for an answer by `tasks.answer`, by link or in the dashboard.

    No worker is occupied meanwhile.
    """

    id = "approval_executor"
    name = "Approval"
    description = (
        "Asks a person a question and waits for the answer: one of `options`, or any answer without them. The wait occupies no worker "
        "and survives restarts. If there is no answer within `timeout_seconds`, the task fails."
    )
    tags = ("core", "human")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "question": {"type": "string", "minLength": 1, "maxLength": 10_000},
            "options": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 255},
                "minItems": 1,
                "maxItems": 20,
                "uniqueItems": True,
                "description": "The allowed answers",
            },
            "timeout_seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 12 * MONTH_SECONDS,
                "description": "How long to wait for the answer. Default: forever",
            },
        },
        "required": ["question"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "answer": {"description": "One of the options, or any JSON value"},
            "by": {"type": "string", "description": "Who answered"},
            "comment": {"type": "string"},
        },
        "required": ["answer", "by"],
    }
    secret_inputs = frozenset()
    example: ClassVar[Json] = {"question": "Publish the report?", "options": ["yes", "no"]}
    example_result: ClassVar[Json] = {"answer": "yes", "by": "demo"}

    async def execute(self, inputs: Json, context: Context) -> Json:
        if (reply := context.reply) is None:
            raise Parked(
                inputs["question"], options=inputs.get("options"), expires_after_seconds=inputs.get("timeout_seconds")
            )
        comment = {} if reply.comment is None else {"comment": reply.comment}
        return {"answer": reply.answer, "by": reply.by, **comment}
