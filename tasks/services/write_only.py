"""What pages do not show of a task's inputs: whatever a schema marks `writeOnly`, as `rest_executor` marks credentials.

Who may read the task has the whole of them from the API. A page stands on a screen, and in the admin it is the screen of somebody else.
"""

from typing import Any

from llmkeys.redact import MASK
from tasks.executors import describe
from tasks.models import Task
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.strict_json import Json


def for_pages(task: Task, inputs: Json) -> Any:
    """The inputs, of the task or resolved, with `…` for each part that the schema of the executor or of the task marks.

    All of them are such a part when there is no such executor here any more: nobody can tell.
    """
    shown = masked(inputs, _of_executor(task.executor_id))
    return masked(shown, (task.schemas or {}).get("input_schema", {}))


def masked(value: Any, schema: Any) -> Any:
    """The value with `…` for each part that is `writeOnly` (JSON Schema 2020-12, validation, 9.4)."""
    if not isinstance(schema, dict):
        return value
    if schema.get("writeOnly") is True:
        return MASK
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
