"""The OpenRPC document: all methods with the JSON Schemas of their parameters and results."""

from collections.abc import Iterable, Mapping
from inspect import getdoc
from typing import Final

from msgspec import json

from a2a.core.errors import RULES
from a2a.core.jsonrpc import INTERNAL_ERROR
from a2a.core.parsing import Params
from a2a.core.version import software_version
from a2a.methods import task_schemas
from a2a.methods.json_schemas import schemas_of
from a2a.methods.method import Method
from tasks.rules.strict_json import Json

OPENRPC: Final = "1.3.2"
SCHEMAS: Final = "#/components/schemas/{name}"


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
        **{kind.__name__: {"code": code, "message": _sentence(kind)} for kind, code in codes.items()},
    }


def _sentence(kind: type[Exception]) -> str:
    return (getdoc(kind) or kind.__name__).splitlines()[0]
