"""Tools that answer at once: each calls a function, and its parameters and result are those of the tool."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any

from a2a.core.parsing import Params
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import Messages, Result, tool_result
from a2a.mcp.tools.tool import READS, Hints, Tool, schema_of
from a2a.methods.method import Method, Response
from a2a.methods.method import Tool as Declared
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

Answered = Callable[[Caller, Any], Any]


@dataclass(frozen=True, slots=True)
class Direct:
    """The call of a tool that returns data: `function` gets the caller and the parsed arguments.

    `without` are parameters of the method that the tool does not have, each with what to do instead.
    """

    params: type[Params]
    function: Answered
    without: Mapping[str, str]

    async def __call__(self, exchange: Exchange, arguments: Json) -> Messages:
        if absent := [(name, reason) for name, reason in self.without.items() if name in arguments]:
            raise InvalidParams(absent)
        call = partial(self.function, exchange.caller, self.params.parse(arguments))
        if iscoroutinefunction(self.function):
            yield Result(value=_shown(await call()))
        else:
            yield Result(value=await pools.read(lambda: _shown(call())))


def _shown(found: Any) -> Json:
    return tool_result(found if isinstance(found, dict) else found.native)


def direct(
    name: str,
    title: str,
    description: str,
    function: Answered,
    *,
    given: type[Params],
    answer: type[Response],
    without: Mapping[str, str] = MappingProxyType({}),
    **more: Any,
) -> Tool:
    """Return the tool that calls the function."""
    schema = schema_of(given)
    schema["properties"] = {key: value for key, value in schema["properties"].items() if key not in without}
    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema=schema,
        output_schema=schema_of(answer),
        call=Direct(given, function, without),
        **more,
    )


def tool_of(method: Method, tool: Declared) -> Tool:
    """Return the tool as which a method is declared."""
    changes = Hints(destroys=tool.destroys, is_idempotent=tool.is_idempotent, reaches_out=tool.reaches_out)
    return direct(
        tool.name,
        tool.title,
        tool.description,
        method.function,
        given=method.params,
        answer=method.answer,
        without=tool.without,
        hints=changes if method.is_async else READS,
        role=method.role,
    )
