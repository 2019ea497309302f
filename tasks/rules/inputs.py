"""Resolve the inputs of an executor."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.rules.strict_json import Json


def label_of(dependency: Json) -> str:
    """Return the name by which a task knows the result of a dependency: `as`, or its id."""
    label: str = dependency.get("as") or dependency["id"]
    return label


def dependency_results(dependencies: Iterable[Json], results: Mapping[str, Any]) -> Json:
    """Map the label of each completed dependency to its result.

    `results` maps the ids of the tree's completed tasks to their results.
    """
    return {label_of(item): results[item["id"]] for item in dependencies if item["id"] in results}


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
