"""The preparation of each crew of the operator's code: it gets the models of the run, or is refused.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import crewai
from crewai.hooks.dispatch import InterceptionPoint, scoped_hooks

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.crewai.crew_model import DEFAULT, CrewModel, model_of
from tasks.executors.crewai.outputs import convert_by_crew
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
                _prepare_flow(name, started.flow)
        except ExecutorError as error:
            raise CrewOver(error) from None  # CrewAI drops what else a hook raises

    with scoped_hooks({InterceptionPoint.EXECUTION_START: [begin]}):
        yield


def _prepare_crew(crew: "Crew", name: str, team: crewai.Crew) -> None:
    agents = _agents_of(team)
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
    _report_tasks(crew, team)


def _prepare_flow(name: str, flow: Any) -> None:
    given = {field: getattr(flow, field) for field in OF_FLOW}
    persists = any(
        method.persist is not None and method.persist.enabled for method in flow._definition.methods.values()
    )
    _refuse(name, "the flow", given | {"persistence": given["persistence"] or persists})
    flow.suppress_flow_events = True


def _refuse(name: str, what: str, given: Json) -> None:
    if field := next((field for field, value in given.items() if value), None):
        raise ExecutorError(f"The crew '{name}': `{field}` of {what} is refused: {REFUSED[field]}.", permanent=True)


def _agents_of(team: crewai.Crew) -> list[Any]:
    of_tasks = [task.agent for task in team.tasks if task.agent is not None]
    manager = [team.manager_agent] if team.manager_agent is not None else []
    return list({id(agent): agent for agent in [*team.agents, *of_tasks, *manager]}.values())


def _report_tasks(crew: "Crew", team: crewai.Crew) -> None:
    steps = len(team.tasks)
    for task in team.tasks:
        if not isinstance(task.callback, Finished):
            task.callback = Finished(crew, steps, task.callback or team.task_callback)


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
