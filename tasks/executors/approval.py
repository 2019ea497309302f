"""Asks a person for approval, or to fill in a form, and waits for the answer."""

from typing import ClassVar, Final

import orjson

from aipartnerupflow.executors import Context, Escalation, Executor, ExecutorError, Json, Parked
from tasks.rules.forms import fault_of_form
from tasks.rules.places import has_places
from tasks.rules.waits import SCHEMA, fault_of_assignees

MONTH_SECONDS: Final = 30 * 86_400
SECONDS: Final[Json] = {"type": "number", "exclusiveMinimum": 0, "maximum": 12 * MONTH_SECONDS}
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
                "description": "The people who may answer, besides administrators: user ids, role:operator, role:admin. Default: the owner"
            },
            "remind_after_seconds": {
                "anyOf": [SECONDS, {"type": "array", "items": SECONDS, "minItems": 1, "maxItems": 10}],
                "description": "When to remind: a number, or up to 10",
            },
            "escalate": {
                "type": "object",
                "properties": {"after_seconds": SECONDS, "assignees": SCHEMA},
                "required": ["after_seconds", "assignees"],
                "additionalProperties": False,
                "description": "The people who may answer, too, after this time",
            },
            "timeout_seconds": {
                **SECONDS,
                "description": "The seconds to wait for the answer. Default: forever",
            },
        },
        "required": ["question"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "description": "With `schema`, the object that was sent; else these fields",
        "properties": {
            "answer": {"description": "One of the options, or any JSON value"},
            "by": {"type": "string", "description": "The user who answered"},
            "comment": {"type": "string", "description": "The comment of the person beside the answer"},
        },
    }
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {"question": "Publish the report?", "options": ["yes", "no"]}
    example_result: ClassVar[Json] = {"answer": "yes", "by": "demo"}

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a schema that is no form, unless a result fills it in, and roles that do not exist."""
        later = inputs.get("escalate")
        lists = {
            "assignees": inputs.get("assignees"),
            "escalate.assignees": later.get("assignees") if isinstance(later, dict) else None,
        }
        for name, names in lists.items():
            if isinstance(names, list) and (problem := fault_of_assignees(names)):
                raise ExecutorError(f"inputs.{name} {problem}", permanent=True)
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
            seconds = inputs.get("remind_after_seconds", [])
            raise Parked(
                inputs["question"],
                options=options,
                schema=schema,
                assignees=inputs.get("assignees"),
                remind_after_seconds=seconds if isinstance(seconds, list) else [seconds],
                escalation=Escalation(**inputs["escalate"]) if "escalate" in inputs else None,
                expires_after_seconds=inputs.get("timeout_seconds"),
            )
        if schema is not None:
            form: Json = reply.answer
            return form
        comment = {} if reply.comment is None else {"comment": reply.comment}
        return {"answer": reply.answer, "by": reply.by, **comment}
