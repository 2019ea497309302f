"""Flows of the owner as tools of an agent (`flow:NAME`): a call runs the flow, such as one with another agent in it."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from django.db.models import F

from aipartnerupflow.executors import ExecutorError, Json
from apflow_site.db import pools
from tasks.executors import answer_field
from tasks.executors.llm.tool import RUN_TREE, Tool, function_name
from tasks.executors.placement import chosen_pool
from tasks.models import Flow, FlowVersion
from tasks.rules.flows import NAME, NAME_RULE
from tasks.rules.pools import LOOP
from tasks.rules.specs import explicit_executor

PREFIX: Final = "flow:"
MOST_COMPARED: Final = 1_000
"""The number of names of flows that are compared with a name that is missing."""


def is_flow(name: str) -> bool:
    return name.startswith(PREFIX)


def check_flow(name: str, params: Mapping[str, Any]) -> None:
    """Raise ExecutorError for a tool that no flow can be. Whether there is the flow is asked when the agent starts."""
    if not NAME.fullmatch(name.removeprefix(PREFIX)):
        raise ExecutorError(
            f"inputs.tools: the name of the flow in '{name[:200]}' {NAME_RULE}, after '{PREFIX}'.", permanent=True
        )
    if (pool := chosen_pool("llm_executor", params) or LOOP) != LOOP:
        raise ExecutorError(
            f"inputs.tools: '{name}' needs the pool '{LOOP}', and the task runs in '{pool}'.", permanent=True
        )


async def flow_tool(name: str, *, user_id: str) -> Tool:
    """Return the flow of this user as a tool. Raises ExecutorError if there is none."""
    return await pools.read(_flow_tool, name, user_id)


def _flow_tool(name: str, user_id: str) -> Tool:
    flows = Flow.objects.filter(user_id=user_id)
    flow_name = name.removeprefix(PREFIX)
    newest = FlowVersion.objects.filter(flow__in=flows.filter(name=flow_name), number=F("flow__version"))
    if (version := newest.first()) is None:
        known = sorted(flows.values_list("name", flat=True)[:MOST_COMPARED])
        close = get_close_matches(flow_name, known, n=2)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ExecutorError(f"inputs.tools: you have no flow '{flow_name}'.{hint}", permanent=True)
    return Tool(
        name=name,
        function=function_name(name),
        description=version.description or f"Runs the flow {flow_name}.",
        schema={"type": "object", "properties": {}} | (version.inputs_schema or {}),
        executor_id=RUN_TREE,
        beside={"flow": flow_name},
        takes="inputs",
        answer=answer_field(_executor_of_root(version.definition)),
    )


def _executor_of_root(definition: Sequence[Json] | Json) -> str | None:
    tasks = [definition] if isinstance(definition, dict) else definition
    root: Json = next((task for task in tasks if task.get("parent_id") is None), {})
    return explicit_executor(root) or root.get("name")
