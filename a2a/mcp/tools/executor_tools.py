"""The executors that the operator offers as tools (`mcp.tools`): a call runs a tree of one task.

A model that makes up an argument has to read that. So where an executor declares its inputs, further ones are refused,
unless its texts may name them as values (`templates`) or its schema says `additionalProperties`.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Final

from django.conf import settings

from a2a.core.parsing import MOST_SHOWN, unknown_reason
from a2a.mcp.eras import Exchange
from a2a.mcp.tools.outcomes import schema_with_result
from a2a.mcp.tools.running import RunTool
from a2a.mcp.tools.tool import Hints, Tool, object_schema
from tasks.executors import describe, executor_ids, get_executor
from tasks.rules.exceptions import InvalidParams
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
"""The operator's statement about an executor → the hints of the tool."""

OF_FURTHER: Final = frozenset({"$ref", "allOf", "anyOf", "patternProperties", "unevaluatedProperties"})
"""Keywords by which a schema may have more properties than it lists."""


@cache
def executor_tools() -> Sequence[Tool]:
    """Return the tools of the executors that are enabled."""
    offered = settings.APFLOW.mcp.tools or {}
    return [_tool(describe(each), HINTS[offered[each]]) for each in sorted(offered.keys() & executor_ids())]


def _tool(described: Json, hints: Hints) -> Tool:
    return Tool(
        name=described["id"],
        title=described["name"],
        description=described["description"],
        input_schema=_closed(described),
        output_schema=schema_with_result(described["result_schema"] or {}),
        call=RunTool(partial(_start, described)),
        hints=Hints(
            reads_only=hints.reads_only,
            destroys=hints.destroys,
            is_idempotent=described["idempotent"],
            reaches_out=True,
        ),
    )


def _closed(described: Json) -> Json:
    """Return the schema of the arguments, which says that there are no others where that is so."""
    schema = object_schema(described["input_schema"])
    is_open = not schema.get("properties") or schema.keys() & OF_FURTHER or get_executor(described["id"]).templates
    return schema if is_open else {"additionalProperties": False} | schema


def _refuse_unknown(schema: Json, arguments: Json) -> None:
    """Raise InvalidParams with the names that the schema does not have."""
    known = schema.get("properties") or {}
    is_closed = schema.get("additionalProperties") is False and not schema.keys() & OF_FURTHER
    if is_closed and (unknown := [name[:MOST_SHOWN] for name in arguments if name not in known]):
        raise InvalidParams([(name, unknown_reason(name, list(known))) for name in unknown[:MOST_SHOWN]])


async def _start(described: Json, exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
    _refuse_unknown(_closed(described), arguments)
    task = {"name": described["name"], "schemas": {"method": described["id"]}, "inputs": arguments}
    return partial(trees.execute_tree, caller=exchange.caller, tasks=task, llm_key=exchange.headers.sent_key())
