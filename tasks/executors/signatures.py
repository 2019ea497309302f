"""The description of a registered Python function for a model: its purpose, and the JSON Schema of its arguments."""

import inspect
from typing import Any, Final, get_type_hints

import msgspec

from aipartnerupflow.executors import Json
from aipartnerupflow.executors.functions import Function, given_schema

DESCRIPTION_CHARACTERS: Final = 1_024
REFS: Final = "#/$defs/{name}"


def description_of(function: Function) -> str:
    """Return the docstring, or the name of a function that has none."""
    return (inspect.getdoc(function) or function.__name__)[:DESCRIPTION_CHARACTERS]


def schema_of(function: Function) -> Json:
    """Return the schema that the function was registered with, or else one made of its signature and type hints.

    A parameter without a hint, or with one that is no JSON type, takes any value.
    """
    if (given := given_schema(function)) is not None:
        return given
    parameters = inspect.signature(function).parameters.values()
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    hints = _hints(function)
    properties, defs = dict[str, Any](), dict[str, Any]()
    for each in named:
        properties[each.name], more = _schema(hints.get(each.name, Any))
        defs |= more
    schema: Json = {
        "type": "object",
        "properties": properties,
        "required": [each.name for each in named if each.default is each.empty],
        "additionalProperties": any(each.kind is each.VAR_KEYWORD for each in parameters),
    }
    return schema | ({"$defs": defs} if defs else {})


def _hints(function: Function) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # a name that exists only for the type checker
        return {}


def _schema(hint: Any) -> tuple[Json, Json]:
    """Return the schema of one parameter, and the definitions that it refers to."""
    try:
        (schema,), defs = msgspec.json.schema_components([hint], ref_template=REFS)
    except TypeError:
        return {}, {}
    return schema, defs
