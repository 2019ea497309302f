"""Convert works to CrewAI objects and run them.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import crewai
import litellm
from crewai.tools import BaseTool
from django.conf import settings
from django.utils.module_loading import import_string
from pydantic import PrivateAttr

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.crewai.crew_spec import AgentWork, TaskWork
from tasks.executors.llm.demo import is_demo

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew

USABLE_WINDOW: Final = 0.85
UNKNOWN_WINDOW_TOKENS: Final = 128_000
CHARACTERS_EACH_TOKEN: Final = 4
MESSAGE_FIELDS: Final = ("role", "content", "name", "tool_calls", "tool_call_id")


def kickoff(crew: "Crew") -> str:
    """Run a crew's tasks in order and return the output of the last.

    Blocks. Raises CrewOver, or what CrewAI raises.
    """
    tools = {name: _tool(name) for name in crew.works.tools}
    agents = {agent.name: _agent(agent, crew, tools) for agent in crew.works.agents}
    tasks: dict[str, crewai.Task] = {}
    for task in crew.works.tasks:
        tasks[task.name] = _task(task, agents[task.agent], tasks, tools)
    team = UnrecordedCrew(agents=list(agents.values()), tasks=list(tasks.values()))
    # Set afterwards, because CrewAI warns of each callback that it cannot write into a checkpoint.
    team.task_callback = lambda output: crew.finish(output.name, output.raw)
    output: Any = team.kickoff()
    return str(output.raw)


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


class UnrecordedCrew(crewai.Crew):
    _task_output_handler: Any = PrivateAttr(default_factory=NoRecord)


class CrewModel(crewai.BaseLLM):
    """The model of one agent. Calls go through the crew's own event loop. It has no key."""

    _crew: Any = PrivateAttr()
    _agent: str = PrivateAttr()

    def asked_by(self, crew: "Crew", agent: str) -> "CrewModel":
        self._crew, self._agent = crew, agent
        return self

    def call(
        self,
        messages: str | list[Any],
        tools: list[Any] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: Mapping[str, Any] | None = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: Any = None,
    ) -> Any:
        """Return the text of the answer, or the tool calls, which CrewAI carries out."""
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        answer = self._crew.ask(
            model=self.model,
            messages=[{name: each[name] for name in MESSAGE_FIELDS if name in each} for each in conversation],
            options={"tools": tools} if tools else {},
            agent=self._agent,
            crew_task=None if from_task is None else from_task.name,
        )
        return answer.tool_calls or self._apply_stop_words(answer.content or "")

    def supports_function_calling(self) -> bool:
        """Whether the model can call tools. Otherwise CrewAI describes the tools in the prompt."""
        return not is_demo(self.model) and litellm.supports_function_calling(self.model)

    def get_context_window_size(self) -> int:
        """The number of tokens after which CrewAI summarizes the conversation."""
        return int((_window_tokens(self.model) or UNKNOWN_WINDOW_TOKENS) * USABLE_WINDOW)

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        """A cheap estimate, used only to decide when to summarize."""
        texts = messages if isinstance(messages, str) else "".join(str(each.get("content")) for each in messages)
        return len(texts) // CHARACTERS_EACH_TOKEN + 1


def _window_tokens(model: str) -> int | None:
    known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    tokens = known.get("max_input_tokens")
    return tokens if isinstance(tokens, int) else None


def _agent(work: AgentWork, crew: "Crew", tools: Mapping[str, BaseTool]) -> crewai.Agent:
    return crewai.Agent(
        role=work.role,
        goal=work.goal,
        backstory=work.backstory,
        llm=CrewModel(model=crew.models[work.name]).asked_by(crew, work.name),
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
