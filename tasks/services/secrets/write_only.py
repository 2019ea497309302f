"""The parts of a task's inputs that a schema marks `writeOnly`: encrypted in the database, and masked on pages.

`rest_executor` marks credentials, for example. A worker decrypts them for an attempt; everywhere else, also in the API,
they are as they are stored (`llmkeys.sealed_texts`). Numbers stay as they are, and texts with places, whose value is not
known before. Rows of earlier versions have clear texts, which are used as they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from llmkeys import sealed_texts
from llmkeys.masker import MASK
from tasks.executors import describe, executor_ids, get_executor
from tasks.models import Task
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.places import OPENING, is_secret_place
from tasks.rules.specs import explicit_executor
from tasks.rules.strict_json import Json

RUN_TREE: Final = "run_tree_executor"
Tasks = TypeVar("Tasks", Json, list[Any])


def for_pages(task: Task, inputs: Json) -> Any:
    """Return the inputs, resolved or not, with `…` for each part that a schema marks.

    The schemas are those of the executor and of the task.

    All inputs are masked if the executor is no longer installed, because its schema is unknown.
    """
    schema: Json = {}
    if task.executor_id is not None:
        try:
            schema = describe(task.executor_id)["input_schema"]
        except ExecutorNotFound:
            schema = {"writeOnly": True}
    shown = masked(inputs, schema)
    return masked(shown, (task.schemas or {}).get("input_schema", {}))


def masked(value: Any, schema: Any) -> Any:
    """Return the value with `…` for each `writeOnly` part.

    The place of a named secret is not masked: it is only a name.
    """
    return _changed(value, schema, lambda part: part if is_secret_place(part) else MASK)


def sealed_inputs(inputs: Json, *, executor_id: str | None, schemas: Json | None, owner: str) -> Json:
    """Return the inputs of a task as they are stored, with the texts of each `writeOnly` part encrypted for the owner.

    Not of a task without an executor, whose inputs are its result, and not where the executor fills places by itself.
    """
    done = _changed_inputs(inputs, partial(_sealed_part, owner=owner), executor_id=executor_id, schemas=schemas)
    if executor_id == RUN_TREE and isinstance(tasks := inputs.get("tasks"), list):
        done = done | {"tasks": sealed_definition(tasks, owner=owner)}
    return done


def opened_inputs(inputs: Json, *, executor_id: str | None, schemas: Json | None, owner: str) -> Json:
    """Return stored inputs with what `sealed_inputs` has encrypted decrypted. Raises CannotUnseal."""
    open_part = partial(sealed_texts.opened, owner=owner)
    return _changed_inputs(inputs, open_part, executor_id=executor_id, schemas=schemas)


def _changed_inputs(
    inputs: Json, change: Callable[[Any], Any], *, executor_id: str | None, schemas: Json | None
) -> Json:
    try:
        executor = None if executor_id is None else get_executor(executor_id)
    except ExecutorNotFound:
        executor = None
    if executor is None or not inputs:
        return inputs
    done: Json = inputs
    for schema in (executor.input_schema, (schemas or {}).get("input_schema")):
        done = _changed(done, schema, change)
    left: Json = {name: inputs[name] for name in executor.templates | executor.verbatim if name in inputs}
    done.update(left)
    return done


def sealed_definition(tasks: Tasks, *, owner: str) -> Tasks:
    """Return the tasks of a request with their inputs as they are stored."""
    if isinstance(tasks, dict):
        task: Json = _sealed_task(tasks, owner)
        return task
    return [_sealed_task(task, owner) for task in tasks]


def _sealed_task(task: Any, owner: str) -> Any:
    inputs = task.get("inputs") if isinstance(task, dict) else None
    if not isinstance(inputs, dict):
        return task
    named = explicit_executor(task) or task.get("name")
    executor_id = named if named in executor_ids() else None
    schemas = task["schemas"] if isinstance(task.get("schemas"), dict) else None
    return task | {"inputs": sealed_inputs(inputs, executor_id=executor_id, schemas=schemas, owner=owner)}


def sealed(inputs: Json, schema: Any, *, owner: str) -> Json:
    """Return the inputs of a run with the texts of each part encrypted that their schema marks."""
    done: Json = _changed(inputs, schema, partial(_sealed_part, owner=owner))
    return done


def _sealed_part(part: Any, *, owner: str) -> Any:
    return sealed_texts.mapped(part, partial(_sealed_text, owner=owner))


def _sealed_text(text: str, *, owner: str) -> str:
    is_open = text and OPENING not in text and not sealed_texts.is_sealed(text)
    return sealed_texts.sealed(text, owner=owner) if is_open else text


def _changed(value: Any, schema: Any, change: Callable[[Any], Any]) -> Any:
    """Return the value with each `writeOnly` part changed (JSON Schema 2020-12, validation, 9.4)."""
    if not isinstance(schema, dict):
        return value
    if schema.get("writeOnly") is True:
        return change(value)
    if isinstance(value, dict):
        rules, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {name: _changed(part, rules.get(name, others), change) for name, part in value.items()}
    if isinstance(value, list):
        return [_changed(part, schema.get("items"), change) for part in value]
    return value
