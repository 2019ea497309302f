"""The dependencies that a task names: in its inputs, which get their results, and in its params (placeholders, its condition, and the items of its map). Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tasks.rules.conditions import decided, renamed
from tasks.rules.maps import for_each_of, items_of, source_of
from tasks.rules.strict_json import Json
from tasks.rules.templates import ANY, rename_placeholders


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


def renamed_params(params: Json | None, ids: Mapping[str, str]) -> Json | None:
    """Return the params of a task with other names of its dependencies."""
    changed: Json | None = rename_placeholders(params, ids, places=ANY)
    if changed is None:
        return None
    if (when := changed.get("when")) is not None:
        changed = changed | {"when": renamed(when, ids)}
    if (source := source_of(changed)) in ids:
        for_each = changed["for_each"]
        changed = changed | {"for_each": for_each | {"items": for_each["items"] | {"task": ids[str(source)]}}}
    return changed


def settled_params(params: Json | None, results: Mapping[str, Any], *, gone: Collection[str]) -> Json | None:
    """Return the params with what they ask about the dependencies that are `gone` decided by the results.

    Raises TooMuchToCompare or CannotMap.
    """
    if params is None:
        return None
    if (when := params.get("when")) is not None:
        params = params | {"when": decided(when, results, gone=gone)}
    if (for_each := for_each_of(params)) is not None and source_of(params) in gone:
        params = params | {"for_each": params["for_each"] | {"items": items_of(for_each, results)}}
    return params
