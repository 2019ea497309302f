"""Convert works to CrewAI objects and run them.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import crewai
from crewai import Task, TaskOutput
from crewai.agent.planning_config import PlanningConfig
from crewai.tools import BaseTool
from crewai.utilities.converter import Converter
from crewai.utilities.string_utils import sanitize_tool_name
from django.conf import settings
from django.utils.module_loading import import_string
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, model_validator

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.crewai.crew_model import CrewModel, models_of
from tasks.executors.crewai.crew_spec import AgentWork, CrewSpec, TaskWork
from tasks.executors.llm.tool import read_of, text_of
from tasks.executors.llm.tools import check_bounds
from tasks.executors.mcp.offered import Offered
from tasks.rules.schema import is_light, mismatch

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew


class NoRecord:
    """Replaces CrewAI's record of outputs for `replay`.

    That record is a file in the home folder, which is unsuitable for tasks of many users.
    """

    def reset(self) -> None:
        return

    def load(self) -> list[Json]:
        return []

    def update(self, task_index: int, log: Json) -> None:
        return


def unrecord() -> None:
    """Let each crew of this process have no record, those that a flow creates too."""
    crewai.Crew.__private_attributes__["_task_output_handler"].default_factory = NoRecord


def output_model(schema: Json) -> type[BaseModel]:
    """Return the class for an object that fits a JSON Schema: CrewAI takes nothing else."""

    class Output(BaseModel):
        model_config = ConfigDict(extra="allow")

        @model_validator(mode="before")
        @classmethod
        def fits(cls, value: Any) -> Any:
            if problem := mismatch(schema, value):
                raise ValueError(problem)
            return value

        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> Json:
            return schema

    return Output


class OwnConverter(Converter):
    """Asks the crew's model for JSON. CrewAI's converter would make a client with a key from the environment."""

    def to_pydantic(self, current_attempt: int = 1) -> BaseModel:
        try:
            converted: BaseModel = self.model.model_validate_json(self.text)
        except ValidationError:
            return super().to_pydantic(current_attempt)
        return converted

    def to_json(self, current_attempt: int = 1) -> Any:
        return self.to_pydantic().model_dump_json()


def convert_by_crew(task: Task) -> None:
    """Let the crew's model convert the output of a task that wants JSON."""
    if task.output_json is not None and task.converter_cls is None:
        task.converter_cls = OwnConverter


def parsed(output: Any) -> Json:
    """Return `parsed`, the output of a crew whose last task has `output_json` or `output_pydantic`."""
    if output.json_dict is not None:
        return {"parsed": output.json_dict}
    return {} if output.pydantic is None else {"parsed": output.pydantic.model_dump(mode="json")}


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


unrecord()


def kickoff(crew: "Crew", works: CrewSpec) -> Json:
    """Run a crew's tasks and return the output of the last as `result` and, with a schema, as `parsed`.

    Blocks. Raises CrewOver, ExecutorError, or what CrewAI raises.
    """
    with models_of(crew):
        team = _team(crew, works)
        try:
            output: Any = team.kickoff()
        finally:
            for agent in team.agents:
                controller: Any = agent._rpm_controller
                if controller is not None:  # the timer of max_rpm would run on in the process
                    controller.stop_rpm_counter()
    return {"result": str(output.raw)} | parsed(output)


def _team(crew: "Crew", works: CrewSpec) -> crewai.Crew:
    tools: dict[str, Sequence[BaseTool]] = {**server_tools(crew)}
    tools |= {name: [_begun(_tool(name), crew)] for name in works.tools if name not in tools}
    check_names(_chosen(works.tools, tools))
    agents = {agent.name: _agent(agent, crew, tools) for agent in works.agents}
    tasks: dict[str, crewai.Task] = {}
    for task in works.tasks:
        tasks[task.name] = _task(task, agents, tasks, tools)
    team = crewai.Crew(
        agents=list(agents.values()),
        tasks=list(tasks.values()),
        process=crewai.Process.hierarchical if works.is_hierarchical else crewai.Process.sequential,
        manager_llm=_model(crew, works.manager_llm) if works.is_hierarchical else None,
        planning=works.is_planned,
        planning_llm=_model(crew, works.planning_llm) if works.is_planned else None,
        max_rpm=works.max_rpm,
    )
    if crew.outputs:  # CrewAI skips the tasks that have an output, as after one of its own checkpoints
        for made, output in zip(team.tasks, crew.outputs, strict=False):
            made.output = TaskOutput(name=made.name, description=made.description, raw=output.output, agent="")
        team.checkpoint_kickoff_event_id = "continued"
    # Set afterwards, because CrewAI warns of each callback that it cannot write into a checkpoint.
    team.task_callback = lambda output: crew.finish(output.name, output.raw, steps=len(works.tasks))
    return team


def _model(crew: "Crew", wanted: str | None) -> CrewModel:
    return CrewModel(model=crew.model(wanted)).of(crew)


def _agent(work: AgentWork, crew: "Crew", tools: Mapping[str, Sequence[BaseTool]]) -> crewai.Agent:
    attempts = work.reasoning_attempts
    return crewai.Agent(
        role=work.role,
        goal=work.goal,
        backstory=work.backstory,
        llm=CrewModel(model=crew.model(work.llm), given=work.options).of(crew, {work.role: work.name}),
        tools=_chosen(work.tools, tools),
        allow_delegation=work.allow_delegation,
        max_iter=work.max_iter,
        max_rpm=work.max_rpm,
        planning_config=None if attempts is None else PlanningConfig(max_attempts=attempts),
        max_retry_limit=0,  # `params.retry` of the task decides about attempts
    )


def _task(
    work: TaskWork,
    agents: Mapping[str, crewai.Agent],
    before: Mapping[str, crewai.Task],
    tools: Mapping[str, Sequence[BaseTool]],
) -> crewai.Task:
    context: Any = {} if work.context is None else {"context": [before[name] for name in work.context]}
    return crewai.Task(
        name=work.name,
        description=work.description,
        expected_output=work.expected_output,
        agent=None if work.agent is None else agents[work.agent],
        tools=_chosen(work.tools, tools),
        async_execution=work.is_async,
        output_pydantic=None if work.schema is None else output_model(work.schema),
        guardrail=work.guardrail,
        guardrail_max_retries=work.guardrail_retries,
        **context,
    )


def _chosen(names: Iterable[str], tools: Mapping[str, Sequence[BaseTool]]) -> list[BaseTool]:
    """Return the tools of these names, each once."""
    return list({id(tool): tool for name in names for tool in tools[name]}.values())


def _begun(tool: BaseTool, crew: "Crew") -> BaseTool:
    """Return the tool, which now stores that it acts before it does."""

    class Begun(type(tool)):  # type: ignore[misc]
        def _run(self, *args: Any, **kwargs: Any) -> Any:
            crew.begin()
            return super()._run(*args, **kwargs)

        async def _arun(self, *args: Any, **kwargs: Any) -> Any:
            await asyncio.to_thread(crew.begin)
            return await super()._arun(*args, **kwargs)

    begun = tool.model_copy()
    begun.__class__ = Begun
    return begun


def _tool(name: str) -> BaseTool:
    """Load a tool of the operator's. Raises ExecutorError if the operator's setting is invalid."""
    path = (settings.APFLOW_CREWAI.tools or {})[name]
    try:
        found = import_string(path)
    except ImportError as error:
        raise ExecutorError(
            f"The tool '{name}' cannot be loaded: {error}. The operator may correct executors.crewai.tools.",
            permanent=True,
        ) from error
    is_class = isinstance(found, type) and issubclass(found, BaseTool)
    tool: Any = found() if is_class else found
    if not isinstance(tool, BaseTool):
        raise ExecutorError(
            f"The tool '{name}' is invalid: {path} is not a BaseTool of CrewAI. The operator may correct executors.crewai.tools.",
            permanent=True,
        )
    return tool
