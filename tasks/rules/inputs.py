"""What a task's executor is given: its own inputs and what its dependencies made (contract, section 1, "Inputs")."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.rules.strict_json import Json


def dependency_results(dependencies: Iterable[Json], results: Mapping[str, Any]) -> Json:
    """Dependency id → its result, of those that completed. `results` has the completed tasks of the tree."""
    return {item["id"]: results[item["id"]] for item in dependencies if item["id"] in results}


def resolved_inputs(inputs: Json, *, input_schema: Json, from_dependencies: Json) -> Json:
    """The inputs, each dependency's result under its id, and the fields that the input schema names, a dependency's result has
    and the inputs lack."""
    resolved = dict(inputs)
    wanted = input_schema.get("properties", ())
    for result in from_dependencies.values():
        if isinstance(result, dict):
            resolved |= {name: result[name] for name in wanted if name in result and name not in resolved}
    return resolved | from_dependencies
