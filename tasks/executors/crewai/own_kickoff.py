"""Load a crew or a flow of the operator's code, and run it.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import crewai
from crewai.flow import Flow
from crewai.hooks.dispatch import InterceptionPoint, scoped_hooks
from crewai.project.wrappers import CrewMethod
from pydantic_core import PydanticSerializationError, to_jsonable_python

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.crewai.crew_model import DEFAULT, CrewModel, model_of, models_of
from tasks.executors.crewai.kickoff import convert_by_crew, parsed, unrecord
from tasks.executors.crewai.own_crews import OwnCrew
from tasks.executors.crewai.running import CrewOver

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew

_KNOWLEDGE: Final = "it calls a model of embeddings with a key of its own"
REFUSED: Final = MappingProxyType(
    {
        "memory": "it calls a model of embeddings with a key of its own, and all users would share it",
        "knowledge": _KNOWLEDGE,
        "knowledge_sources": _KNOWLEDGE,
        "mcps": "crews of code have no MCP servers. Give the agent tools in the code, or write works, whose agents have mcp:server.tool",
        "apps": "they are services of CrewAI's platform",
        "a2a": "other agents are called by a2a_executor",
        "human_input": "no person reads a worker's terminal. Ask with approval_executor",
        "stream": "calls are streamed in any case. Leave it out",
        "persistence": "all users would share the states. The state of a flow is in the result",
    }
)
"""Feature that a crew or flow cannot have → the reason."""
OF_CREW: Final = ("memory", "knowledge_sources", "stream")
OF_AGENT: Final = ("memory", "knowledge_sources", "knowledge", "mcps", "apps", "a2a")
OF_FLOW: Final = ("stream", "persistence")
MODELS_OF_AGENT: Final = ("llm", "function_calling_llm")
MODELS_OF_CREW: Final = ("manager_llm", "planning_llm", "function_calling_llm", "chat_llm")


@contextmanager
def prepared(crew: "Crew", name: str) -> Iterator[None]:
    """Prepare each crew and flow that begins in this context, those within a flow too."""

    def begin(started: Any) -> None:
        try:
            if started.crew is not None:
                _prepare_crew(crew, name, started.crew)
            elif started.flow is not None:
                flow = started.flow
                given = {field: getattr(flow, field) for field in OF_FLOW}
                methods = flow._definition.methods.values()
                persists = any(each.persist is not None and each.persist.enabled for each in methods)
                _refuse(name, "the flow", given | {"persistence": given["persistence"] or persists})
                flow.suppress_flow_events = True
        except ExecutorError as error:
            raise CrewOver(error) from None  # CrewAI drops what else a hook raises

    with scoped_hooks({InterceptionPoint.EXECUTION_START: [begin]}):
        yield


def _prepare_crew(crew: "Crew", name: str, team: crewai.Crew) -> None:
    of_tasks = [task.agent for task in team.tasks if task.agent is not None]
    manager = [team.manager_agent] if team.manager_agent is not None else []
    agents: list[Any] = list({id(agent): agent for agent in [*team.agents, *of_tasks, *manager]}.values())
    _refuse(name, "the crew", {field: getattr(team, field) for field in OF_CREW})
    for agent in agents:
        _refuse(name, f"the agent '{agent.role}'", {field: getattr(agent, field, None) for field in OF_AGENT})
    for task in team.tasks:
        _refuse(name, f"the task '{task.name or task.description}'", {"human_input": task.human_input})
    team.verbose = False
    for agent in agents:
        agent.verbose = False
        for field in MODELS_OF_AGENT:
            setattr(agent, field, model_of(crew, getattr(agent, field, None)))
    for field in MODELS_OF_CREW:
        setattr(team, field, model_of(crew, getattr(team, field)))
    if team.planning and team.planning_llm is None:
        team.planning_llm = CrewModel(model=DEFAULT).of(crew)
    crew.check_now([agent.llm.named for agent in agents if isinstance(agent.llm, CrewModel)])
    for task in team.tasks:
        convert_by_crew(task)
        if not isinstance(task.callback, Finished):
            task.callback = Finished(crew, len(team.tasks), task.callback or team.task_callback)


def _refuse(name: str, what: str, given: Json) -> None:
    if field := next((field for field, value in given.items() if value), None):
        raise ExecutorError(f"The crew '{name}': `{field}` of {what} is refused: {REFUSED[field]}.", permanent=True)


class Finished:
    """The callback of a task: reports it, and calls that of the code."""

    def __init__(self, crew: "Crew", steps: int, callback: Callable[[Any], Any] | None) -> None:
        self._crew = crew
        self._steps = steps
        self._callback = callback

    def __call__(self, output: Any) -> None:
        self._crew.finish(output.name or output.description, output.raw, steps=self._steps)
        if self._callback is not None:
            self._callback(output)


unrecord()


def kickoff_own(crew: "Crew", own: OwnCrew) -> Json:
    """Run the crew or the flow, and return its result. Blocks.

    Raises CrewOver, ExecutorError, or what the code raises.
    """
    with models_of(crew), prepared(crew, own.name):
        made = _made(own)
        output = made.kickoff(inputs=own.inputs)
        if not isinstance(made, Flow):
            return {"result": str(output.raw)} | parsed(output)
        shown = output.raw if isinstance(output, crewai.CrewOutput) else output
        state = {name: value for name, value in _json(made.state, "state").items() if name != "id"}  # made up by CrewAI
        return {"result": _json(shown, "result"), "state": state}


def _json(value: Any, what: str) -> Any:
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise ExecutorError(f"The {what} of the flow is not JSON: {error}.", permanent=True) from None


def _made(own: OwnCrew) -> Any:
    """Import what the operator's path names, and return a Crew or a Flow of this run's own. Raises ExecutorError."""
    module, _, name = own.path.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ExecutorError(
            f"The crew '{own.name}' cannot be loaded: {error}. The operator may correct executors.crewai.crews.",
            permanent=True,
        ) from error
    if isinstance(found, crewai.Crew):
        made: Any = found.copy()  # a crew keeps what its last run filled in
    elif getattr(found, "is_crew_class", False):
        instance = found()
        members = inspect.getmembers_static(type(instance))
        crews = [
            name for name, value in members if isinstance(value, CrewMethod) or getattr(value, "is_crew", False) is True
        ]
        made = getattr(instance, crews[0] if crews else "crew")()
    else:
        made = found() if callable(found) else found
    if isinstance(found, Flow) or not isinstance(made, crewai.Crew | Flow):
        raise ExecutorError(
            f"The crew '{own.name}' is invalid: {own.path} must be a class with @CrewBase, a Crew, a Flow class, or a "
            "function that returns a Crew or a Flow. The operator may correct executors.crewai.crews.",
            permanent=True,
        )
    return made
