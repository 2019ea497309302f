"""The OpenRPC document: all methods with the JSON Schemas of their parameters and results.

OpenAPI and MCP describe methods by the same schemas.
"""

from collections.abc import Iterable, Mapping
from inspect import getdoc
from typing import Any, Final

from msgspec import Struct, json

from a2a.core.errors import RULES
from a2a.core.jsonrpc import INTERNAL_ERROR
from a2a.core.parsing import Params
from a2a.core.process import software_version
from a2a.methods import task_schemas
from a2a.methods.method import Method
from a2a.methods.responses import ListedTask
from a2a.methods.runs import Run
from tasks.rules.strict_json import Json

CHOOSABLE: Final[tuple[type[Struct], ...]] = (ListedTask, Run)
"""The types of list items whose `fields` a client may choose."""
OPENRPC: Final = "1.3.2"
SCHEMAS: Final = "#/components/schemas/{name}"


def schemas_of(kinds: Iterable[Any], *, template: str) -> tuple[list[Json], dict[str, Json]]:
    """Return the schema of each type, and the components to which they refer as `template` says.

    A list item whose fields may be chosen has all of them, or some.
    """
    schemas, components = json.schema_components(kinds, ref_template=template)
    items = [kind.__name__ for kind in CHOOSABLE if kind.__name__ in components]
    parts = {
        _part(name): components[name]
        | {
            "title": _part(name),
            "description": f"The fields of a {name} that `fields` names, and no others.",
            "required": [],
        }
        for name in items
    }
    refs = {template.format(name=name): template.format(name=_part(name)) for name in items}
    return (
        [_with_parts(schema, refs) for schema in schemas],
        {name: _with_parts(component, refs) for name, component in components.items()} | parts,
    )


def _part(name: str) -> str:
    return f"{name}Fields"


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


def openrpc_document(tables: Mapping[str, Mapping[str, Method]]) -> Json:
    """Return the document.

    `tables` maps paths to methods; a method of several paths is listed under the first.
    """
    rows: dict[str, tuple[str, Method]] = {}
    for path, table in tables.items():
        rows = {name: (path, method) for name, method in table.items()} | rows
    kinds = [method.answer for _, method in rows.values()]
    results, schemas = schemas_of([*kinds, task_schemas.NewTask, task_schemas.TaskToStore], template=SCHEMAS)
    methods = [
        _method(name, path, method, result)
        for (name, (path, method)), result in zip(rows.items(), results, strict=False)
    ]
    for _, method in rows.values():
        schemas |= parts_of(method.params)
    return {
        "openrpc": OPENRPC,
        "info": {
            "title": "aipartnerupflow",
            "version": software_version(),
            "description": "Stores trees of tasks, runs them on workers and streams their events.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"name": path.strip("/"), "url": path} for path in tables],
        "methods": sorted(methods, key=lambda method: str(method["name"])),
        "components": {"schemas": schemas, "errors": _errors()},
    }


def _method(name: str, path: str, method: Method, result: Json) -> Json:
    return {
        "name": name,
        "summary": (getdoc(method.function) or "").splitlines()[0],
        "servers": [{"name": path.strip("/"), "url": path}],
        "paramStructure": "by-name",
        "params": list(_params(method.params)),
        "result": {"name": "result", "schema": result},
        "errors": [{"$ref": f"#/components/errors/{error}"} for error in _errors()],
    }


def _params(kind: type[Params]) -> Iterable[Json]:
    schema = _components(kind)[kind.__name__]
    for name, described in schema["properties"].items():
        others = [alias for alias, field in kind.ALIASES.items() if field == name]
        also = {"description": f"Aliases: {', '.join(others)}."} if others else {}
        yield {"name": name, "required": name in schema.get("required", ()), "schema": described} | also


def parts_of(kind: type[Params]) -> Json:
    """Return the schemas to which the schemas of the parameters refer."""
    return {name: schema for name, schema in _components(kind).items() if name != kind.__name__}


def _components(kind: type[Params]) -> Json:
    return json.schema_components([kind], ref_template=SCHEMAS)[1]


def _errors() -> Json:
    """One entry per exception class, with its code. The default message is the class docstring."""
    codes = {kind: rule.code for kind, rule in RULES.items() if rule.code != INTERNAL_ERROR}
    return {
        "InternalError": {"code": INTERNAL_ERROR, "message": "Internal error."},
        **{
            kind.__name__: {"code": code, "message": (getdoc(kind) or kind.__name__).splitlines()[0]}
            for kind, code in codes.items()
        },
    }
