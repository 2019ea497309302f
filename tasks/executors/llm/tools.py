"""Tools of an agent by name: registered Python functions, executors that the operator allows, tools of MCP servers, and flows.

The signature and docstring of a function describe it to the model.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.functions import Function, given_schema
from aipartnerupflow.workflows.values import arguments_schema
from tasks.executors import get_executor
from tasks.executors.approval import Approval
from tasks.executors.llm.tool import MCP, CannotCall, Tool, check_flow, flow_tool, function_name, is_flow
from tasks.executors.mcp.offered import PLACE, SERVERS, is_of_server, server_and_tool
from tasks.executors.plugins import plugins
from tasks.rules.exceptions import ExecutorNotFound
from tasks.status import OnInterrupt

DESCRIPTION_CHARACTERS: Final = 1_024
PYTHON: Final = "python_executor"
MOST_TOOLS: Final = 128
MOST_BYTES: Final = 262_144
"""The size of the definitions of all tools, which each call of the model has."""
STEPS: Final = 20
TEXT: Final[Json] = {"type": "string"}
APPROVAL: Final = ("assignees", "remind_after_seconds", "escalate", "timeout_seconds")
"""The inputs of a question that an approval has."""
BY_NAME: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "max_steps": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "description": f"With tools by name: how often the model may be called. Default: {STEPS}",
        },
        "confirm": {
            "type": "array",
            "items": TEXT,
            "description": "The tools by name whose calls a person has to approve",
        },
        "on_interrupt": {
            "type": ["string", "object"],
            "description": "The action on a call whose worker died after it had begun, if that is not safe to repeat: repeat, fail or ask; for all tools, or an object with the names of some. Default: params.on_interrupt, else fail",
        },
        "approval": {
            "type": "object",
            "properties": {name: Approval.input_schema["properties"][name] for name in APPROVAL},
            "additionalProperties": False,
            "description": "The people who may approve the calls of `confirm`, the times of their reminders, and the time limit",
        },
    }
)
"""The inputs that only tools by name have."""
INPUTS: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "tools": {
            "type": "array",
            "items": {"anyOf": [{"type": "object"}, TEXT]},
            "description": "Names of functions, executors, tools of MCP servers (mcp:server.tool) or flows (flow:name), which the model calls until it answers; or functions in OpenAI's format, whose calls are returned",
        },
        **BY_NAME,
    }
)


def description_of(function: Function) -> str:
    """Return the docstring, or the name of a function that has none."""
    return (inspect.getdoc(function) or function.__name__)[:DESCRIPTION_CHARACTERS]


def schema_of(function: Function) -> Json:
    """Return the schema that the function was registered with, or else one made of its signature and type hints.

    A parameter without a hint, or with one that is no JSON type, takes any value.
    """
    if (given := given_schema(function)) is not None:
        return given
    return arguments_schema(function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools of a task by their function names. The tools in `confirm`, by name, need an approval, whose question has the inputs
    `approval` too.
    """

    by_function: Mapping[str, Tool]
    confirm: frozenset[str]
    approval: Json
    max_steps: int

    def definitions(self) -> list[Json]:
        return [tool.definition() for tool in self.by_function.values()]

    def executors(self) -> list[str]:
        """Return the ids of the executors that the calls may use."""
        return sorted({"approval_executor", *(tool.executor_id for tool in self.by_function.values())})

    def named(self, function: str) -> Tool:
        """Raise CannotCall for a name that the model has made up."""
        if (tool := self.by_function.get(function)) is None:
            raise CannotCall(f"there is no tool '{function[:100]}'; the tools are {', '.join(self.by_function)}")
        return tool


def named_in(inputs: Json) -> list[str]:
    """Return the tools by name, each once. Raises ExecutorError, permanent."""
    names = inputs.get("tools") or []
    if not isinstance(names, list) or not any(isinstance(each, str) for each in names):
        if given := [name for name in BY_NAME if name in inputs]:
            raise _fault(f"inputs.{given[0]} is for tools by name: the names of functions or executors in inputs.tools")
        return []
    if not all(isinstance(each, str) for each in names):
        raise _fault("inputs.tools has names and objects. Give names, which are called, or objects, which are not")
    if len(names) > MOST_TOOLS:
        raise _fault(f"inputs.tools has more than {MOST_TOOLS} names")
    for name in inputs.get("confirm", []):
        server, dot, _ = name.partition(".")
        if name not in names and not (is_of_server(name) and dot and server in names):
            raise _fault(f"inputs.confirm: '{name}' is none of the tools {', '.join(names)}")
    if problem := _fault_of_interrupts(inputs.get("on_interrupt"), names):
        raise _fault(f"inputs.on_interrupt{problem}")
    return list(dict.fromkeys(names))


def _fault_of_interrupts(said: object, names: Collection[str]) -> str | None:
    known = ", ".join(OnInterrupt)
    if said is None:
        return None
    if not isinstance(said, dict):
        return None if said in list(OnInterrupt) else f" must be {known}, or an object with one of these for each tool"
    for name, value in said.items():
        server, dot, _ = name.partition(".")
        if name not in names and not (is_of_server(name) and dot and server in names):
            close = get_close_matches(name[:100], names, n=1)
            return f": '{name[:100]}' is none of the tools {', '.join(names)}" + (
                f"; did you mean '{close[0]}'?" if close else ""
            )
        if value not in list(OnInterrupt):
            return f".{name} must be one of {known}"
    return None


async def tools_of(inputs: Json, *, user_id: str, log: Callable[[str], None]) -> Tools | None:
    """Return the tools by name, after asking MCP servers for theirs; None without any. Raises ExecutorError.

    `user_id` is the owner of flows, and `log` gets which tools of a server are left out, and why.
    """
    if not (names := named_in(inputs)):
        return None
    tools = dict[str, Tool]()
    for name in names:
        tools |= {tool.name: tool for tool in await _tools(name, user_id, log)}
    for name, tool in tools.items():
        said = inputs.get("on_interrupt")  # by the agent about the tool, or about all tools of its server
        if isinstance(said, dict):
            said = said.get(name, said.get(name.partition(".")[0]) if is_of_server(name) else None)
        if said is not None:
            tools[name] = replace(tool, on_interrupt=said)
    check_bounds([tool.definition() for tool in tools.values()], place="inputs.tools")
    by_function = {tool.function: tool for tool in tools.values()}
    if len(by_function) < len(tools):
        raise _fault("inputs.tools has two names that are the same to the model; rename one")
    confirm = set[str]()
    for name in inputs.get("confirm", []):
        is_whole_server = is_of_server(name) and "." not in name
        found = [tool for tool in tools if tool == name or (is_whole_server and tool.startswith(f"{name}."))]
        if not found:
            raise _fault(f"inputs.confirm: '{name}' is none of the tools {', '.join(tools)}")
        confirm.update(found)
    return Tools(
        by_function=by_function,
        confirm=frozenset(confirm),
        approval=inputs.get("approval", {}),
        max_steps=inputs.get("max_steps", STEPS),
    )


def check_bounds(definitions: Sequence[Json], *, place: str) -> None:
    """Raise ExecutorError, permanent, for more tools than a model may have. `place` is the field that names them."""
    if len(definitions) > MOST_TOOLS:
        raise _fault(f"{place} has more than {MOST_TOOLS} tools. Name those that the model needs: mcp:server.tool")
    if (size := sum(len(orjson.dumps(each)) for each in definitions)) > MOST_BYTES:
        raise _fault(f"{place}: the definitions have {size:,} bytes; at most {MOST_BYTES:,} are allowed")


def check(params: Json, inputs: Json) -> None:
    """Raise ExecutorError for tools that can never be called. Tools in a result that is filled in are checked when it is there."""
    if isinstance(inputs.get("tools"), str) or not isinstance(inputs.get("confirm", []), list):
        return  # the schema decides about anything but a place
    for name in (names := named_in(inputs)):
        if is_of_server(name):
            server_and_tool(name)  # whether the server has the tool is asked when the agent starts
        elif is_flow(name):
            check_flow(name, params)
        else:
            _tool(name)
    if isinstance(approval := inputs.get("approval"), dict):
        if not inputs.get("confirm"):
            raise _fault("inputs.approval is for the tools in inputs.confirm, which is missing")
        try:
            Approval().check_with_inputs({}, {name: approval[name] for name in approval if name in APPROVAL})
        except ExecutorError as error:
            raise ExecutorError(str(error).replace("inputs.", "inputs.approval.", 1), permanent=True) from None
    if names and "spawn" in params:
        raise _fault("params.spawn and tools by name exclude each other: the calls are the tasks that this one adds")


async def _tools(name: str, user_id: str, log: Callable[[str], None]) -> list[Tool]:
    if is_flow(name):
        return [await flow_tool(name, user_id=user_id)]
    if not is_of_server(name):
        return [_tool(name)]
    offered = await SERVERS.get().named(name, place=PLACE)
    for each in offered:
        if each.problem:
            log(f"The tool {each.name[:200]} is left out, because {each.problem}")
    return [
        Tool(
            name=each.name,
            function=function_name(each.name),
            description=each.description,
            schema=each.schema,
            executor_id=MCP,
            beside={"server": each.server, "tool": each.tool},
            reads="result",
            on_interrupt=OnInterrupt.REPEAT if each.is_safe else None,
        )
        for each in offered
        if not each.problem
    ]


def _tool(name: str) -> Tool:
    functions = plugins().functions
    if name in functions:
        function = functions[name]
        return Tool(
            name=name,
            function=function_name(name),
            description=description_of(function),
            schema=schema_of(function),
            executor_id=PYTHON,
            beside={"function": name},
        )
    allowed = settings.APFLOW.executors.llm.tools
    if name not in allowed:
        raise _unknown(name, [*functions, *allowed])
    try:
        executor = get_executor(name)
    except ExecutorNotFound as error:
        raise _fault(f"inputs.tools: {error.message.rstrip('.')}") from None
    if executor.templates:
        fields = ", ".join(sorted(executor.templates))
        raise _fault(
            f"inputs.tools: '{name}' cannot be a tool, because it fills templates ({fields}), and arguments are no templates"
        )
    return Tool(
        name=name,
        function=function_name(name),
        description=executor.description,
        schema=executor.input_schema,
        executor_id=name,
        verbatim=executor.verbatim,
    )


def _unknown(name: str, known: Sequence[str]) -> ExecutorError:
    close = get_close_matches(name[:100], known)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    try:
        get_executor(name)
        what = f"the executor '{name[:100]}' is not allowed as a tool."
    except ExecutorNotFound:
        what = f"there is no tool '{name[:100]}'."
    return ExecutorError(
        f"inputs.tools: {what}{hint} Tools are functions with @python_function in executors.modules, the executors "
        f"that executors.llm.tools allows ({', '.join(settings.APFLOW.executors.llm.tools) or 'none'}), mcp:server.tool "
        "of executors.mcp.servers, and flow:name of your flows.",
        permanent=True,
    )


def _fault(message: str) -> ExecutorError:
    return ExecutorError(f"{message}.", permanent=True)
