"""The flows that their owners offer as tools (`flows.save` with `is_tool`): a call runs the flow with its inputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from a2a.mcp.eras import Exchange
from a2a.mcp.tools.outcomes import outcome_schema
from a2a.mcp.tools.running import RunTool
from a2a.mcp.tools.tool import Hints, Tool, object_schema
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.models import FlowVersion
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import flow_lists
from tasks.services.trees import Execution

PREFIX: Final = "flow_"
"""The prefix of the names of these tools, so that they never hide another tool."""


class FlowTools:
    """The caller's own flows that are tools."""

    async def after(self, caller: Caller, name: str, *, limit: int) -> Sequence[Tool]:
        if not caller.may(Role.OPERATOR):
            return []
        first = name.removeprefix(PREFIX) if name.startswith(PREFIX) else "" if name < PREFIX else None
        if first is None:
            return []
        found = await pools.read(partial(flow_lists.tools_of, caller=caller, after=first, limit=limit))
        return [_tool(version) for version in found]

    async def named(self, caller: Caller, name: str) -> Tool | None:
        if not name.startswith(PREFIX):
            return None
        found = await pools.read(partial(flow_lists.tool_of, caller=caller, name=name.removeprefix(PREFIX)))
        return None if found is None else _tool(found)


def _tool(version: FlowVersion) -> Tool:
    flow = version.flow
    return Tool(
        name=f"{PREFIX}{flow.name}",
        title=flow.name,
        description=version.description or f"Runs the flow {flow.name}.",
        input_schema=object_schema(version.inputs_schema),
        output_schema=outcome_schema(),
        call=RunTool(partial(_start, flow.name), with_tree=True),
        hints=Hints(reaches_out=True),
    )


async def _start(name: str, exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
    start = partial(flows.run_flow, caller=exchange.caller, name=name, inputs=arguments)
    return partial(start, llm_key=exchange.headers.sent_key())
