"""The catalogue of a server of MCP: tools, resources and prompts, and their sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, Final

import orjson

from a2a.mcp.messages import text
from a2a.mcp.resources import Runs
from a2a.mcp.tools.builtin import builtin_tools
from a2a.mcp.tools.offered import FlowTools, executor_tools
from a2a.mcp.tools.tool import Fixed, Source, Tool
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Flow, FlowVersion
from tasks.rules.exceptions import FlowNotFound, InvalidParams
from tasks.rules.forms import fault_of_form
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import flow_lists

RUN: Final = "Run the flow '{name}' with the tool run_flow and these inputs: {inputs}. Then say what came out."


class Flows:
    """The prompts: the caller's own flows, with the properties of their inputs as arguments."""

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        """Return a page of the caller's prompts, and the cursor of the next one. Raises InvalidParams."""
        read = partial(flow_lists.list_flows, caller=caller, user_id=caller.user_id, limit=PAGE, cursor=cursor or None)
        found, following = await pools.read(read)
        shown = []
        for each in found:
            name, version = each.flow.name, each.version
            required = _required(version)
            arguments = [
                {"name": field, "required": field in required}
                | ({"description": rule["description"]} if isinstance(rule, dict) and "description" in rule else {})
                for field, rule in _properties(version).items()
            ]
            shown.append({"name": name, "title": name, "description": version.description, "arguments": arguments})
        return shown, following

    async def missing(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        """Return the form of the required arguments that are not given; None if there are none, or no such prompt."""
        found = await _flow(caller, name)
        fields = {} if found is None else _missing(found[1], arguments)
        if not fields:
            return None
        return {"type": "object", "properties": fields, "required": list(fields)}

    async def get(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        """Return the description and the messages of a prompt; None if the caller has none of this name.

        Raises InvalidParams for an argument that the prompt does not have, or for one that it needs.
        """
        found = await _flow(caller, name)
        if found is None:
            return None
        _, version = found
        known = _properties(version)
        is_open = (version.inputs_schema or {}).get("additionalProperties", True) is not False and not known
        unknown = [] if is_open else [name for name in arguments if name not in known]
        problems = [(f"arguments.{name[:100]}", "is no argument of this prompt") for name in unknown]
        problems += [(f"arguments.{name[:100]}", "required") for name in _missing(version, arguments)]
        if problems:
            raise InvalidParams(problems)
        prompt = RUN.format(name=name, inputs=orjson.dumps(arguments).decode())
        return {"description": version.description, "messages": [{"role": "user", "content": text(prompt)}]}

    async def complete(self, caller: Caller, name: str, argument: str) -> Sequence[str] | None:
        """Return values of an argument of a prompt, the best first; None if the caller has no such prompt."""
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

    def fits_a_form(name: str, rule: Any) -> bool:
        return isinstance(rule, dict) and fault_of_form({"type": "object", "properties": {name: rule}}) is None

    return {name: rule if fits_a_form(name, rule) else {"type": "string"} for name, rule in rules.items()}


def _values_in(schema: Any) -> list[str]:
    """Return the values that a schema names: its enum, the two of a boolean, its default and examples."""
    if not isinstance(schema, dict):
        return []
    named = [schema[name] for name in ("enum", "examples") if isinstance(schema.get(name), list)]
    given = [schema["default"]] if "default" in schema else []
    booleans = [True, False] if schema.get("type") == "boolean" else []
    values = [*given, *(value for values in named for value in values), *booleans]
    return list(dict.fromkeys(text(value)["text"] for value in values))


PAGE: Final = 50
"""The number of tools in one page of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The tools and resources of a server. If two tools have one name, the one of the first source counts."""

    sources: Sequence[Source]
    resources: Runs
    prompts: Flows

    async def tools(self, caller: Caller, *, after: str = "") -> list[Tool]:
        """Return a page of the caller's tools by name, after this name; one more than PAGE if there are further ones."""
        pages = [await source.after(caller, after, limit=PAGE + 1) for source in self.sources]
        return list(islice(merge(*pages, key=lambda tool: tool.name), PAGE + 1))

    async def tool(self, caller: Caller, name: str) -> Tool | None:
        """Return the caller's tool of this name, even if the caller's role is too low to call it."""
        for source in self.sources:
            if (found := await source.named(caller, name)) is not None:
                return found
        return None


OURS: Final = Catalogue(
    sources=(Fixed(builtin_tools), Fixed(executor_tools), FlowTools()), resources=Runs(), prompts=Flows()
)


MOST: Final = 100
"""The protocol allows no more values in one reply."""
PROMPT: Final = "ref/prompt"
RESOURCE: Final = "ref/resource"


async def completed(catalogue: Catalogue, caller: Caller, params: Json) -> Json:
    """Return the values that begin with what the user has typed, in upper or lower case. Raises InvalidParams."""
    ref, argument = params.get("ref"), params.get("argument")
    if not isinstance(ref, dict) or not isinstance(argument, dict):
        raise InvalidParams([("ref", "required, an object, and so is argument")])
    name, typed = argument.get("name"), argument.get("value")
    if not isinstance(name, str) or not isinstance(typed, str):
        raise InvalidParams([("argument", "must have a name and a value, both strings")])
    prompt, uri = ref.get("name"), ref.get("uri")
    known: Sequence[str] | None = None
    if ref.get("type") == PROMPT and isinstance(prompt, str):
        known = await catalogue.prompts.complete(caller, prompt, name)
    elif ref.get("type") == RESOURCE and isinstance(uri, str):
        known = await catalogue.resources.complete(caller, uri, name)
    if known is None:
        raise InvalidParams([("ref", "names no prompt and no template of a resource; call prompts/list")])
    found = [value for value in known if value.casefold().startswith(typed.casefold())]
    return {"completion": {"values": found[:MOST], "total": len(found), "hasMore": len(found) > MOST}}
