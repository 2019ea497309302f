"""Convert works to CrewAI objects and run them.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import crewai
from crewai.tools import BaseTool
from django.conf import settings
from django.utils.module_loading import import_string

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.crewai.crew_model import CrewModel
from tasks.executors.crewai.crew_spec import AgentWork, CrewSpec, TaskWork
from tasks.executors.crewai.unrecorded import unrecord

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew


unrecord()


def kickoff(crew: "Crew", works: CrewSpec) -> Json:
    """Run a crew's tasks in order and return the output of the last as `result`.

    Blocks. Raises CrewOver, or what CrewAI raises.
    """
    tools = {name: _tool(name) for name in works.tools}
    agents = {agent.name: _agent(agent, crew, tools) for agent in works.agents}
    tasks: dict[str, crewai.Task] = {}
    for task in works.tasks:
        tasks[task.name] = _task(task, agents[task.agent], tasks, tools)
    team = crewai.Crew(agents=list(agents.values()), tasks=list(tasks.values()))
    # Set afterwards, because CrewAI warns of each callback that it cannot write into a checkpoint.
    team.task_callback = lambda output: crew.finish(output.name, output.raw, steps=len(works.tasks))
    output: Any = team.kickoff()
    return {"result": str(output.raw)}


def _agent(work: AgentWork, crew: "Crew", tools: Mapping[str, BaseTool]) -> crewai.Agent:
    return crewai.Agent(
        role=work.role,
        goal=work.goal,
        backstory=work.backstory,
        llm=CrewModel(model=crew.model(work.llm)).of(crew, work.name),
        tools=[tools[name] for name in work.tools],
        allow_delegation=work.allow_delegation,
        max_iter=work.max_iter,
        max_retry_limit=0,  # `params.retry` of the task decides about attempts
    )


def _task(
    work: TaskWork, agent: crewai.Agent, before: Mapping[str, crewai.Task], tools: Mapping[str, BaseTool]
) -> crewai.Task:
    context: Any = {} if work.context is None else {"context": [before[name] for name in work.context]}
    return crewai.Task(
        name=work.name,
        description=work.description,
        expected_output=work.expected_output,
        agent=agent,
        tools=[tools[name] for name in work.tools],
        **context,
    )


def _tool(name: str) -> BaseTool:
    """Load a tool. Raises ExecutorError if the operator's setting is invalid."""
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
