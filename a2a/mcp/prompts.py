"""Prompts: the caller's flows, for users who start one from a menu of their host."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Protocol

import orjson

from a2a.mcp.messages import text
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Flow, FlowVersion
from tasks.rules.exceptions import FlowNotFound, InvalidParams
from tasks.rules.forms import fault_of_form
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import flow_lists

PAGE: Final = 50
RUN: Final = "Run the flow '{name}' with the tool run_flow and these inputs: {inputs}. Then say what came out."


class Prompts(Protocol):
    """The prompts of a server."""

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        """Return a page of the caller's prompts, and the cursor of the next one. Raises InvalidParams."""
        ...

    async def missing(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        """Return the form of the required arguments that are not given; None if there are none, or no such prompt."""
        ...

    async def get(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        """Return the description and the messages of a prompt; None if the caller has none of this name.

        Raises InvalidParams for an argument that the prompt does not have, or for one that it needs.
        """
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

    async def missing(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        found = await _flow(caller, name)
        fields = {} if found is None else _missing(found[1], arguments)
        if not fields:
            return None
        return {"type": "object", "properties": fields, "required": list(fields)}

    async def get(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        found = await _flow(caller, name)
        if found is None:
            return None
        flow, version = found
        _check(version, arguments)
        said = RUN.format(name=flow.name, inputs=orjson.dumps(arguments).decode())
        return {"description": version.description, "messages": [{"role": "user", "content": text(said)}]}

    async def complete(self, caller: Caller, name: str, argument: str) -> Sequence[str] | None:
        found = await _flow(caller, name)
        return None if found is None else _values_in(_properties(found[1]).get(argument))


async def _flow(caller: Caller, name: str) -> tuple[Flow, FlowVersion] | None:
    try:
        return await pools.read(partial(flows.read_version, caller=caller, name=name))
    except FlowNotFound:
        return None


def _properties(version: FlowVersion) -> Json:
    found = (version.inputs_schema or {}).get("properties")
    return found if isinstance(found, dict) else {}


def _required(version: FlowVersion) -> list[str]:
    required = (version.inputs_schema or {}).get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _missing(version: FlowVersion, arguments: Json) -> Json:
    """Return the fields of a form for missing arguments. A value that no form can show is requested as text."""
    rules = {name: _properties(version).get(name) for name in _required(version) if name not in arguments}
    return {name: rule if _is_field(name, rule) else {"type": "string"} for name, rule in rules.items()}


def _is_field(name: str, rule: Any) -> bool:
    return isinstance(rule, dict) and fault_of_form({"type": "object", "properties": {name: rule}}) is None


def _check(version: FlowVersion, arguments: Json) -> None:
    """Raise InvalidParams."""
    known = _properties(version)
    is_open = (version.inputs_schema or {}).get("additionalProperties", True) is not False and not known
    unknown = [] if is_open else [name for name in arguments if name not in known]
    problems = [(f"arguments.{name[:100]}", "is no argument of this prompt") for name in unknown]
    problems += [(f"arguments.{name[:100]}", "required") for name in _missing(version, arguments)]
    if problems:
        raise InvalidParams(problems)


def _values_in(schema: Any) -> list[str]:
    """Return the values that a schema names: its enum, the two of a boolean, its default and examples."""
    if not isinstance(schema, dict):
        return []
    named = [schema[name] for name in ("enum", "examples") if isinstance(schema.get(name), list)]
    given = [schema["default"]] if "default" in schema else []
    booleans = [True, False] if schema.get("type") == "boolean" else []
    values = [*given, *(value for values in named for value in values), *booleans]
    return list(dict.fromkeys(text(value)["text"] for value in values))


def _listed(name: str, version: FlowVersion) -> Json:
    required = _required(version)
    arguments = [
        {"name": each, "required": each in required}
        | ({"description": rule["description"]} if isinstance(rule, dict) and "description" in rule else {})
        for each, rule in _properties(version).items()
    ]
    return {"name": name, "title": name, "description": version.description, "arguments": arguments}
