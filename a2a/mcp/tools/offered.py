"""The tools that a caller or the operator offers: flows of the caller, and executors.

A model that makes up an argument has to read that. So where an executor declares its inputs, further ones are refused,
unless its texts may name them as values (`templates`) or its schema says `additionalProperties`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from types import MappingProxyType
from typing import Final

from django.conf import settings

from a2a.core.parsing import MOST_SHOWN, unknown_reason
from a2a.mcp.eras import Exchange
from a2a.mcp.tools.app import SHOWN
from a2a.mcp.tools.outcomes import outcome_schema, schema_with_result
from a2a.mcp.tools.running import RunTool
from a2a.mcp.tools.tool import Hints, Tool, object_schema
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.executors import describe, executor_ids, get_executor
from tasks.models import FlowVersion
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services import flows, trees
from tasks.services.flows import flow_lists
from tasks.services.trees import Execution

HINTS_OF_EXECUTORS: Final = MappingProxyType(
    {
        "read_only": Hints(reads_only=True, reaches_out=True),
        "additive": Hints(reaches_out=True),
        "destructive": Hints(destroys=True, reaches_out=True),
    }
)
"""The operator's statement about an executor → the hints of the tool."""

OF_FURTHER: Final = frozenset({"$ref", "allOf", "anyOf", "patternProperties", "unevaluatedProperties"})
"""Keywords by which a schema may have more properties than it lists."""
PREFIX: Final = "flow_"
"""The prefix of the names of tools that are flows, so that they never hide another tool."""
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]")
"""The characters that the name of a tool does not have: `workflow:research` is the tool `workflow_research`."""


@cache
def executor_tools() -> Sequence[Tool]:
    """Return the executors that the operator offers (`mcp.tools`) and that are enabled: a call runs a tree of one task."""
    offered = settings.APFLOW.mcp.tools or {}
    tools = []
    for each in sorted(offered.keys() & executor_ids()):
        described, hints = describe(each), HINTS_OF_EXECUTORS[offered[each]]
        tools.append(
            Tool(
                name=NOT_IN_NAMES.sub("_", described["id"]),
                title=described["name"],
                description=described["description"],
                input_schema=_closed(described),
                output_schema=schema_with_result(described["result_schema"] or {}),
                call=RunTool(partial(_start_executor, described)),
                hints=replace(hints, is_idempotent=described["idempotent"]),
            )
        )
    return tools


def _closed(described: Json) -> Json:
    """Return the schema of the arguments, which says that there are no others where that is so."""
    schema = object_schema(described["input_schema"])
    is_open = not schema.get("properties") or schema.keys() & OF_FURTHER or get_executor(described["id"]).templates
    return schema if is_open else {"additionalProperties": False} | schema


async def _start_executor(described: Json, exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
    """Raise InvalidParams with the names that the schema does not have."""
    schema = _closed(described)
    known = schema.get("properties") or {}
    is_closed = schema.get("additionalProperties") is False and not schema.keys() & OF_FURTHER
    if is_closed and (unknown := [name[:MOST_SHOWN] for name in arguments if name not in known]):
        raise InvalidParams([(name, unknown_reason(name, list(known))) for name in unknown[:MOST_SHOWN]])
    task = {"name": described["name"], "schemas": {"method": described["id"]}, "inputs": arguments}
    return partial(trees.execute_tree, caller=exchange.caller, tasks=task, llm_key=exchange.headers.sent_key())


class FlowTools:
    """The caller's own flows that are tools (`flows.save` with `is_tool`): a call runs the flow with its inputs."""

    async def after(self, caller: Caller, name: str, *, limit: int) -> Sequence[Tool]:
        if not caller.may(Role.OPERATOR):
            return []
        first = name.removeprefix(PREFIX) if name.startswith(PREFIX) else "" if name < PREFIX else None
        if first is None:
            return []
        found = await pools.read(partial(flow_lists.tools_of, caller=caller, after=first, limit=limit))
        return [_flow_tool(version, version.flow.name) for version in found]

    async def named(self, caller: Caller, name: str) -> Tool | None:
        if not name.startswith(PREFIX):
            return None
        flow = name.removeprefix(PREFIX)
        found = await pools.read(partial(flow_lists.tool_of, caller=caller, name=flow))
        return None if found is None else _flow_tool(found, flow)


def _flow_tool(version: FlowVersion, name: str) -> Tool:
    async def start(exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
        run = partial(flows.run_flow, caller=exchange.caller, name=name, inputs=arguments)
        return partial(run, llm_key=exchange.headers.sent_key())

    return Tool(
        name=f"{PREFIX}{name}",
        title=name,
        description=version.description or f"Runs the flow {name}.",
        input_schema=object_schema(version.inputs_schema),
        output_schema=outcome_schema(),
        call=RunTool(start, with_tree=True, has_app=True),
        hints=Hints(reaches_out=True),
        ui=SHOWN,
    )
