"""Answers that are JSON: what `response_format` asks for, and whether an answer is it."""

from typing import Any, Final

import orjson

from aipartnerupflow.executors import ExecutorError, Json
from tasks.rules.places import has_places
from tasks.rules.schema import fault, mismatch
from tasks.rules.schema_cost import TooCostly, check_cost, is_light

PLACE: Final = "inputs.response_format.json_schema.schema"
MOST_REPAIRS: Final = 5
REPAIR: Final = "That was refused: {fault}. Answer again, with the JSON only."


class Unfit(Exception):
    """The answer is not the JSON that was asked for. The message says why, to the model and to people."""


def wanted_in(inputs: Json) -> Json | None:
    """Return the JSON Schema that the answer has to fit, which may be empty; None if any text will do."""
    wanted = inputs.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_object", "json_schema"):
        return None
    schema = (wanted.get("json_schema") or {}).get("schema") if wanted["type"] == "json_schema" else None
    return schema if isinstance(schema, dict) else {}


def repairs_in(params: Json) -> int:
    """Return how often an answer that does not fit is sent back (`params.repair`, 1). Raises ExecutorError."""
    repairs: Any = params.get("repair", 1)
    if isinstance(repairs, bool) or not isinstance(repairs, int) or not 0 <= repairs <= MOST_REPAIRS:
        raise ExecutorError(f"params.repair must be an integer from 0 to {MOST_REPAIRS}.", permanent=True)
    return int(repairs)


def check(inputs: Json) -> None:
    """Raise ExecutorError for a schema that no answer can be checked against, unless a result fills it in."""
    schema = wanted_in(inputs)
    if not schema or has_places(orjson.dumps(schema).decode()):
        return
    if problem := fault(schema):
        raise ExecutorError(f"{PLACE} is no JSON Schema: {problem}", permanent=True)
    try:
        check_cost(schema)
    except TooCostly as error:
        raise ExecutorError(f"{PLACE} {error}.", permanent=True) from None


def parsed(answer: str | None, schema: Json) -> Any:
    """Return the JSON of an answer. Raises Unfit."""
    try:
        value = orjson.loads(_without_fence(answer or ""))
    except orjson.JSONDecodeError as error:
        raise Unfit(f"it is not JSON ({error})") from None
    if not schema and not isinstance(value, dict):
        raise Unfit("it is JSON, but not an object")
    if not is_light(schema, {"answer": value}):
        raise Unfit("it is too large to check it against this schema")
    if problem := mismatch(schema, value):
        raise Unfit(f"it does not fit the schema: {problem}")
    return value


def _without_fence(text: str) -> str:
    """Many models put JSON into a block of Markdown even when they are asked not to."""
    text = text.strip()
    if not text.startswith("```") or not text.endswith("```"):
        return text
    return text[3:-3].removeprefix("json").strip()
