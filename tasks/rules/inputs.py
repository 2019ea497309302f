"""Resolve the inputs of an executor (contract, section 1, "Inputs")."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.rules.strict_json import Json


def dependency_results(dependencies: Iterable[Json], results: Mapping[str, Any]) -> Json:
    """Map the id of each completed dependency to its result.

    `results` maps the ids of the tree's completed tasks to their results.
    """
    return {item["id"]: results[item["id"]] for item in dependencies if item["id"] in results}


def resolved_inputs(inputs: Json, *, input_schema: Json, from_dependencies: Json) -> Json:
    """Return the inputs with the result of each dependency under its id.

    A field that the input schema names and the inputs lack is filled from the first dependency
    whose result, an object, has it.
    """
    resolved = dict(inputs)
    wanted = input_schema.get("properties", ())
    for result in from_dependencies.values():
        if isinstance(result, dict):
            resolved |= {name: result[name] for name in wanted if name in result and name not in resolved}
    return resolved | from_dependencies
