"""Tools and their sources."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from a2a.core.parsing import Params
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import Messages
from a2a.methods.method import Response
from a2a.methods.openrpc import schemas_of
from accounts.callers import Caller, Role
from tasks.rules.strict_json import Json

DEFINITIONS: Final = "#/$defs/{name}"
NULL: Final = {"type": "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """Hints about the effects of a call, for clients that ask their user before it."""

    reads_only: bool = False
    destroys: bool = False
    is_idempotent: bool = False
    reaches_out: bool = False

    def to_json(self, title: str) -> Json:
        return {
            "title": title,
            "readOnlyHint": self.reads_only,
            "destructiveHint": self.destroys,
            "idempotentHint": self.is_idempotent or self.reads_only,
            "openWorldHint": self.reaches_out,
        }


READS: Final = Hints(reads_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool. `call` gets the request and the arguments. `role` is the lowest role that sees and may call it.

    `ui` says which app shows its results, and whether models, apps or both call it (MCP Apps, "Resource Discovery").
    """

    name: str
    title: str
    description: str
    input_schema: Json
    call: Callable[[Exchange, Json], Messages]
    output_schema: Json | None = None
    hints: Hints = Hints()
    role: Role = Role.OPERATOR
    ui: Mapping[str, Any] | None = None

    def listed(self) -> Json:
        """Return the tool, as clients get it."""
        shown = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
            "annotations": self.hints.to_json(self.title),
        }
        shown |= {} if self.output_schema is None else {"outputSchema": self.output_schema}
        return shown if self.ui is None else shown | {"_meta": {"ui": dict(self.ui)}}


class Source(Protocol):
    """A source of tools."""

    async def after(self, caller: Caller, name: str, *, limit: int) -> Sequence[Tool]:
        """Return the first tools of the caller by name, after `name`: at most `limit`, and fewer only at the end."""
        ...

    async def named(self, caller: Caller, name: str) -> Tool | None:
        """Return the caller's tool of this name."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Tools that are the same for all callers, but for their roles."""

    tools: Callable[[], Sequence[Tool]]

    async def after(self, caller: Caller, name: str, *, limit: int) -> Sequence[Tool]:
        found = [tool for tool in self.tools() if tool.name > name and caller.may(tool.role)]
        return sorted(found, key=lambda tool: tool.name)[:limit]

    async def named(self, caller: Caller, name: str) -> Tool | None:
        return next((tool for tool in self.tools() if tool.name == name), None)


def schema_of(kind: type[Params] | type[Response]) -> Json:
    """Return the JSON Schema of an object, with the schemas to which it refers."""
    _, parts = schemas_of([kind], template=DEFINITIONS)
    whole: Json = parts.pop(kind.__name__)
    whole.pop("title", None)
    whole.pop("description", None)
    return whole | {"$defs": parts} if parts else whole


def short_schema_of(kind: type[Params]) -> Json:
    """Return the schema of arguments. One that may be null and is null by default may as well be absent, so null is left out."""
    whole = schema_of(kind)
    return whole | {"properties": {name: _without_null(rule) for name, rule in whole["properties"].items()}}


def _without_null(rule: Json) -> Json:
    others = [each for each in rule.get("anyOf", ()) if each != NULL]
    if "default" not in rule or rule["default"] is not None or not others:
        return rule
    kept = {name: value for name, value in rule.items() if name not in ("anyOf", "default")}
    return kept | (others[0] if len(others) == 1 else {"anyOf": others})


def object_schema(schema: Any) -> Json:
    """Return a schema whose root is an object, as MCP wants it."""
    found = dict(schema) if isinstance(schema, dict) else {}
    return {"type": "object"} | found
