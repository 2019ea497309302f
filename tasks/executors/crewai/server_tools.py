"""Tools of MCP servers as tools of CrewAI. The crew calls them on its event loop.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from crewai.tools import BaseTool
from crewai.utilities.string_utils import sanitize_tool_name
from pydantic import BaseModel, ConfigDict, PrivateAttr

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.llm.tool import read_of, text_of
from tasks.executors.llm.tools import check_bounds
from tasks.executors.mcp.offered import Offered
from tasks.rules.schema import mismatch
from tasks.rules.schema_cost import is_light

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew


def _never(arguments: Any, result: Any) -> bool:
    return False


class ServerTool(BaseTool):
    """A tool of a server. Errors are text that the model reads, because CrewAI would repeat a call that raises."""

    cache_function: Any = _never
    _crew: Any = PrivateAttr()
    _tool: Any = PrivateAttr()

    @classmethod
    def of(cls, offered: Offered, crew: "Crew") -> "ServerTool":
        tool = cls(
            name=sanitize_tool_name(offered.name),
            description=offered.description,
            args_schema=_arguments_of(offered.schema),
        )
        tool._crew, tool._tool = crew, offered
        return tool

    @property
    def definition(self) -> Json:
        """The tool in OpenAI's format, with the schema of the server, which CrewAI would change."""
        function = {"name": self.name, "description": self.description, "parameters": self._tool.schema}
        return {"type": "function", "function": function}

    def _run(self, **arguments: Any) -> str:
        schema = self._tool.schema
        if is_light(schema, arguments) and (problem := mismatch(schema, arguments)):
            return text_of(f"Not called: the arguments do not fit: {problem}")
        try:
            return text_of(read_of(self._crew.call_tool(self._tool, arguments), "result"))
        except ExecutorError as error:
            return text_of(f"Error: {error}")


def server_tools(crew: "Crew") -> Mapping[str, list[ServerTool]]:
    """Return the tools of servers that the crew has found, by the names of its works. Raises ExecutorError."""
    made = {each.name: ServerTool.of(each, crew) for found in crew.offered.values() for each in found}
    crew.definitions = {tool.name: tool.definition for tool in made.values()}
    check_bounds(list(crew.definitions.values()), place="works")
    return {name: [made[each.name] for each in found] for name, found in crew.offered.items()}


def check_names(tools: Iterable[BaseTool]) -> None:
    """Raise ExecutorError, permanent, if a tool of a server has the same name as another to the model."""
    names = dict[str, BaseTool]()
    for tool in tools:
        other = names.setdefault(sanitize_tool_name(tool.name), tool)
        if other is not tool and (isinstance(tool, ServerTool) or isinstance(other, ServerTool)):
            raise ExecutorError(f"works: two tools are '{tool.name}' to the model. Leave out one.", permanent=True)


def _arguments_of(schema: Json) -> type[BaseModel]:
    """Return the class for arguments that CrewAI wants: it lets all pass, and shows the schema of the server."""

    class Arguments(BaseModel):
        model_config = ConfigDict(extra="allow")

        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> Json:
            return {"properties": {}, **deepcopy(schema)}  # CrewAI changes what it gets

    return Arguments
