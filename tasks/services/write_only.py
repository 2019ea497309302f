"""Mask what pages must not show of a task's inputs: the parts that a schema marks `writeOnly`.

`rest_executor` marks credentials, for example. Users who may read the task get the full inputs from
the API. A page is visible on a screen, in the admin on that of another user.
"""

from typing import Any

from llmkeys.masker import MASK
from tasks.executors import describe
from tasks.models import Task
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.places import is_secret_place
from tasks.rules.strict_json import Json


def for_pages(task: Task, inputs: Json) -> Any:
    """Return the inputs, resolved or not, with `…` for each part that a schema marks.

    The schemas are those of the executor and of the task.

    All inputs are masked if the executor is no longer installed, because its schema is unknown.
    """
    shown = masked(inputs, _of_executor(task.executor_id))
    return masked(shown, (task.schemas or {}).get("input_schema", {}))


def masked(value: Any, schema: Any) -> Any:
    """Return the value with `…` for each `writeOnly` part (JSON Schema 2020-12, validation, 9.4).

    The place of a named secret is not masked: it is only a name.
    """
    if not isinstance(schema, dict):
        return value
    if schema.get("writeOnly") is True:
        return value if is_secret_place(value) else MASK
    if isinstance(value, dict):
        rules, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {name: masked(part, rules.get(name, others)) for name, part in value.items()}
    if isinstance(value, list):
        return [masked(part, schema.get("items")) for part in value]
    return value


def _of_executor(executor_id: str | None) -> Json:
    if executor_id is None:
        return {}
    try:
        schema: Json = describe(executor_id)["input_schema"]
    except ExecutorNotFound:
        return {"writeOnly": True}
    return schema
