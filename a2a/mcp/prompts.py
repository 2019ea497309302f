"""Prompts: the caller's flows, for users who start one from a menu of their host."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Protocol

import orjson

from a2a.mcp.messages import text
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import FlowVersion
from tasks.rules.exceptions import FlowNotFound
from tasks.rules.strict_json import Json
from tasks.services import flow_lists, flows

PAGE: Final = 50
RUN: Final = "Run the flow '{name}' with the tool run_flow and these inputs: {inputs}. Then say what came out."


class Prompts(Protocol):
    """The prompts of a server."""

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        """Return a page of the caller's prompts, and the cursor of the next one. Raises InvalidParams."""
        ...

    async def get(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        """Return the description and the messages of a prompt; None if the caller has none of this name."""
        ...

    async def complete(self, caller: Caller, name: str, argument: str) -> Sequence[str] | None:
        """Return values of an argument of a prompt, the best first; None if the caller has no such prompt."""
        ...


class Flows:
    """The caller's own flows, with the properties of their inputs as arguments."""

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        read = partial(flow_lists.list_flows, caller=caller, user_id=caller.user_id, limit=PAGE, cursor=cursor or None)
        found, following = await pools.read(read)
        return [_listed(each.flow.name, each.version) for each in found], following

    async def get(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        try:
            flow, version = await pools.read(partial(flows.read_version, caller=caller, name=name))
        except FlowNotFound:
            return None
        said = RUN.format(name=flow.name, inputs=orjson.dumps(arguments).decode())
        return {"description": version.description, "messages": [{"role": "user", "content": text(said)}]}

    async def complete(self, caller: Caller, name: str, argument: str) -> Sequence[str] | None:
        try:
            _, version = await pools.read(partial(flows.read_version, caller=caller, name=name))
        except FlowNotFound:
            return None
        properties = (version.inputs_schema or {}).get("properties")
        return _values_in(properties.get(argument) if isinstance(properties, dict) else None)


def _values_in(schema: Any) -> list[str]:
    """The values that a schema names: its enum, the two of a boolean, its default and examples."""
    if not isinstance(schema, dict):
        return []
    named = [schema[name] for name in ("enum", "examples") if isinstance(schema.get(name), list)]
    given = [schema["default"]] if "default" in schema else []
    booleans = [True, False] if schema.get("type") == "boolean" else []
    values = [*given, *(value for values in named for value in values), *booleans]
    return list(dict.fromkeys(text(value)["text"] for value in values))


def _listed(name: str, version: FlowVersion) -> Json:
    schema = version.inputs_schema or {}
    properties, required = schema.get("properties"), schema.get("required")
    arguments = [
        {"name": each, "required": isinstance(required, list) and each in required}
        | ({"description": rule["description"]} if isinstance(rule, dict) and "description" in rule else {})
        for each, rule in (properties if isinstance(properties, dict) else {}).items()
    ]
    return {"name": name, "title": name, "description": version.description, "arguments": arguments}
