"""Asks a person for approval, or to fill in a form, and waits for the answer."""

from typing import ClassVar, Final

import orjson

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Parked
from tasks.rules.assignees import SCHEMA, fault_of_assignees
from tasks.rules.forms import fault_of_form
from tasks.rules.places import has_places

MONTH_SECONDS: Final = 30 * 86_400
BOTH: Final = (
    "inputs.schema and inputs.options exclude each other. Give options for a question with one click, or a schema for "
    "a form, in which a choice is a field with an enum."
)


class Approval(Executor):
    """Waits for an answer by `tasks.answer`, by link or in the dashboard.

    No worker is occupied meanwhile.
    """

    id = "approval_executor"
    name = "Approval"
    description = (
        "Asks a person a question and waits for the answer: one of `options`, a form by `schema`, or any answer. The wait occupies no "
        "worker and survives restarts. After `timeout_seconds` without an answer the task fails."
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
            "schema": {
                "type": "object",
                "description": "A form instead of options: a flat JSON Schema of strings, numbers, integers, booleans and enums",
            },
            "assignees": SCHEMA
            | {
                "description": "Who may answer, besides administrators: user ids, role:operator, role:admin. Default: the owner"
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
        "description": "With `schema`, the object that was sent; else these fields",
        "properties": {
            "answer": {"description": "One of the options, or any JSON value"},
            "by": {"type": "string", "description": "Who answered"},
            "comment": {"type": "string"},
        },
    }
    secret_inputs = frozenset()
    example: ClassVar[Json] = {"question": "Publish the report?", "options": ["yes", "no"]}
    example_result: ClassVar[Json] = {"answer": "yes", "by": "demo"}

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a schema that is no form, unless a result fills it in, and roles that do not exist."""
        if isinstance(names := inputs.get("assignees"), list) and (problem := fault_of_assignees(names)):
            raise ExecutorError(f"inputs.assignees {problem}", permanent=True)
        schema = inputs.get("schema")
        if isinstance(schema, dict) and "options" in inputs:
            raise ExecutorError(BOTH, permanent=True)
        if not isinstance(schema, dict) or has_places(orjson.dumps(schema).decode()):
            return
        if problem := fault_of_form(schema):
            raise ExecutorError(f"inputs.schema {problem}", permanent=True)

    async def execute(self, inputs: Json, context: Context) -> Json:
        schema, options = inputs.get("schema"), inputs.get("options")
        if (reply := context.reply) is None:
            if schema is not None and options is not None:
                raise ExecutorError(BOTH, permanent=True)
            raise Parked(
                inputs["question"],
                options=options,
                schema=schema,
                assignees=inputs.get("assignees"),
                expires_after_seconds=inputs.get("timeout_seconds"),
            )
        if schema is not None:
            form: Json = reply.answer
            return form
        comment = {} if reply.comment is None else {"comment": reply.comment}
        return {"answer": reply.answer, "by": reply.by, **comment}
