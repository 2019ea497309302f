"""The executors that the operator offers as tools (`mcp.tools`): a call runs a tree of one task."""

from collections.abc import Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Final

from django.conf import settings

from a2a.mcp.eras import Exchange
from a2a.mcp.tools.outcomes import schema_with_result
from a2a.mcp.tools.running import RunTool
from a2a.mcp.tools.tool import Hints, Tool, object_schema
from apflow_site.db import pools
from tasks.executors import describe, executor_ids
from tasks.rules.strict_json import Json
from tasks.services import trees
from tasks.services.trees import Execution

HINTS: Final = MappingProxyType(
    {
        "read_only": Hints(reads_only=True, reaches_out=True),
        "additive": Hints(reaches_out=True),
        "destructive": Hints(destroys=True, reaches_out=True),
    }
)
"""What the operator says of an executor → the hints of the tool."""


@cache
def executor_tools() -> Sequence[Tool]:
    """The tools of the executors that are enabled."""
    offered = settings.APFLOW.mcp.tools or {}
    return [_tool(describe(each), HINTS[offered[each]]) for each in sorted(offered.keys() & executor_ids())]


def _tool(described: Json, hints: Hints) -> Tool:
    return Tool(
        name=described["id"],
        title=described["name"],
        description=described["description"],
        input_schema=object_schema(described["input_schema"]),
        output_schema=schema_with_result(described["result_schema"] or {}),
        call=RunTool(partial(_start, described)),
        hints=Hints(
            reads_only=hints.reads_only,
            destroys=hints.destroys,
            is_idempotent=described["idempotent"],
            reaches_out=True,
        ),
    )


async def _start(described: Json, exchange: Exchange, arguments: Json) -> Execution:
    task = {"name": described["name"], "schemas": {"method": described["id"]}, "inputs": arguments}
    llm_key = exchange.headers.sent_key()
    return await pools.write(partial(trees.execute_tree, caller=exchange.caller, tasks=task, llm_key=llm_key))
