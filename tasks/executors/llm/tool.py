"""A tool of an agent: its definition for the model, and the task that a call of it is.

The arguments of the model are data in the inputs of the task: nothing in it is a place.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from aipartnerupflow.executors import ExecutorError, Json
from apflow_site.db import pools
from tasks.executors import answer_field
from tasks.executors.placement import chosen_pool
from tasks.models import Flow, FlowVersion
from tasks.rules.flows import NAME_RULE, REFERENCE
from tasks.rules.places import escaped
from tasks.rules.pools import LOOP
from tasks.rules.schema import is_light, mismatch
from tasks.rules.specs import explicit_executor

MCP: Final = "mcp_executor"
RUN_TREE: Final = "run_tree_executor"
CHECKED_THERE: Final = (MCP, RUN_TREE)
"""Executors whose calls check the arguments themselves: a server, and a flow."""
NOT_ALLOWED: Final = re.compile(r"[^a-zA-Z0-9_-]")
FUNCTION_CHARACTERS: Final = 64
RESULT_CHARACTERS: Final = 20_000


class CannotCall(Exception):
    """A call that is not made. The message is for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`name` is what the task calls it, `function` what the model does, and `schema` that of its arguments."""

    name: str
    function: str
    description: str
    schema: Json
    executor_id: str
    verbatim: Collection[str] = ()
    """The arguments in which the executor looks for no places."""
    beside: Json | None = None
    """The inputs beside the arguments, which then are an input themselves; None: the arguments are the inputs."""
    takes: str = "arguments"
    """The name of that input."""
    reads: str | None = None
    """The field of the result that the model reads if there is no other."""
    answer: str | None = None
    """The field of the result that has an answer in words, which the model reads."""
    on_interrupt: str | None = None
    """The action on a call that a crash interrupts; None: that of the agent."""

    def definition(self) -> Json:
        """Return the tool in OpenAI's format."""
        function = {"name": self.function, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}

    def check(self, arguments: Json) -> None:
        """Raise CannotCall if the arguments do not fit."""
        if self.executor_id in CHECKED_THERE and not is_light(self.schema, arguments):
            return  # a schema of a server or a user must not occupy the worker
        if problem := mismatch(self.schema, arguments):
            raise CannotCall(f"the arguments do not fit: {problem}")

    def task(self, arguments: Json) -> Json:
        """Return a task that calls it with the arguments, without an id."""
        if self.beside is not None:
            inputs: Json = self.beside | {self.takes: escaped(arguments)}
        else:
            inputs = {name: v if name in self.verbatim else escaped(v) for name, v in arguments.items()}
        params = {} if self.on_interrupt is None else {"params": {"on_interrupt": self.on_interrupt}}
        return {"name": self.name[:255], "schemas": {"method": self.executor_id}, "inputs": inputs} | params


def function_name(name: str) -> str:
    """Return what the model calls a tool of this name."""
    return NOT_ALLOWED.sub("_", name)[:FUNCTION_CHARACTERS]


def read_of(result: Any, field: str | None, *, answer: str | None = None) -> Any:
    """Return what the model reads of a result: the answer in words if it has that field, or one field if it has no other."""
    if not isinstance(result, dict):
        return result
    words = result.get(answer or "")
    if isinstance(words, str):
        return words
    return result[field] if result.keys() == {field} else result


def text_of(value: Any, *, most: int = RESULT_CHARACTERS) -> str:
    """Return the text that the model reads, cut at so many characters."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if len(text) <= most:
        return text
    return f"{text[:most]}… (cut off: the first {most:,} of {len(text):,} characters)"


PREFIX: Final = "flow:"


def is_flow(name: str) -> bool:
    return name.startswith(PREFIX)


def check_flow(name: str, params: Mapping[str, Any]) -> None:
    """Raise ExecutorError for a tool that no flow can be. Whether there is the flow is asked when the agent starts."""
    if not REFERENCE.fullmatch(name.removeprefix(PREFIX)):
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
    if (version := FlowVersion.objects.referred(flows, flow_name).first()) is None:
        close = flows.names_like(flow_name)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ExecutorError(f"inputs.tools: you have no flow '{flow_name}'.{hint}", permanent=True)
    definition: Sequence[Json] | Json = version.definition
    tasks = [definition] if isinstance(definition, dict) else definition
    root: Json = next((task for task in tasks if task.get("parent_id") is None), {})
    return Tool(
        name=name,
        function=function_name(name),
        description=version.description or f"Runs the flow {flow_name}.",
        schema={"type": "object", "properties": {}} | (version.inputs_schema or {}),
        executor_id=RUN_TREE,
        beside={"flow": flow_name},
        takes="inputs",
        answer=answer_field(explicit_executor(root) or root.get("name")),
    )
