"""The JSON Schemas of parameters and replies, from which OpenAPI, OpenRPC and MCP describe methods."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct, json

from a2a.methods.responses import ListedTask
from a2a.methods.runs import Run
from tasks.rules.strict_json import Json

CHOOSABLE: Final[tuple[type[Struct], ...]] = (ListedTask, Run)
"""Items of lists of which a client may choose the `fields`."""


def schemas_of(kinds: Iterable[Any], *, template: str) -> tuple[list[Json], dict[str, Json]]:
    """Return the schema of each type, and the components to which they refer as `template` says.

    An item of a list of which the fields may be chosen is whole, or has some of them.
    """
    schemas, components = json.schema_components(kinds, ref_template=template)
    items = [kind.__name__ for kind in CHOOSABLE if kind.__name__ in components]
    parts = {_part(name): _some_of(components[name]) for name in items}
    refs = {template.format(name=name): template.format(name=_part(name)) for name in items}
    return (
        [_with_parts(schema, refs) for schema in schemas],
        {name: _with_parts(component, refs) for name, component in components.items()} | parts,
    )


def _part(name: str) -> str:
    return f"{name}Fields"


def _some_of(whole: Json) -> Json:
    """Return the schema of an item that has some of the fields."""
    name = whole["title"]
    described = f"The fields of a {name} that `fields` names, and no others."
    return whole | {"title": _part(name), "description": described, "required": []}


def _with_parts(schema: Any, refs: dict[str, str]) -> Any:
    """Return the schema with lists whose items are whole, or parts."""
    if isinstance(schema, list):
        return [_with_parts(each, refs) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _with_parts(value, refs) for name, value in schema.items()}
    items = found.get("items")
    if isinstance(items, dict) and (ref := items.get("$ref")) in refs:
        found["items"] = {"anyOf": [items, {"$ref": refs[ref]}]}
    return found
