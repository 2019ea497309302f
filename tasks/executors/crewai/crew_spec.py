"""Parse `works`: validate the fields of a crew, its agents and its tasks, and fill their templates.

Does not import CrewAI.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.llm.prompt import PARAMETERS
from tasks.executors.mcp.offered import is_of_server, server_and_tool
from tasks.rules.schema import TooCostly, check_cost, fault, mismatch
from tasks.rules.templates import ANY, CannotFill, Filler, TooLong

_EMBEDDINGS: Final = "it calls a model of embeddings with a key of its own"
_CODE: Final = "works are data, and run no code. The operator may offer a crew in executors.crewai.crews"
_FILES: Final = "a crew has no files. Its output is the result of the task"
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(("memory", "knowledge", "knowledge_sources", "embedder", "short_term_memory"), _EMBEDDINGS)
    | dict.fromkeys(("callback", "callbacks", "step_callback", "task_callback", "converter_cls", "config"), _CODE)
    | dict.fromkeys(("before_kickoff_callbacks", "after_kickoff_callbacks", "guardrails"), _CODE)
    | dict.fromkeys(("output_file", "output_log_file", "create_directory", "prompt_file", "input_files"), _FILES)
    | {
        "human_input": "no person reads a worker's terminal. Ask with approval_executor",
        "mcps": "an agent names the tools of configured servers in `tools`: mcp:server.tool",
        "apps": "they are services of CrewAI's platform",
        "a2a": "other agents are called by a2a_executor",
        "from_repository": "it is a service of CrewAI's platform",
        "function_calling_llm": "the agent's llm calls the tools",
        "manager_agent": "use manager_llm",
        "max_execution_time": "use params.timeout_seconds of the task",
        "max_retry_limit": "use params.retry of the task",
        "stream": "calls are streamed in any case",
    }
)
"""Field of CrewAI that works cannot have → the reason."""
EXPECTED_OUTPUT: Final = "A complete answer, in plain text."
ITERATIONS: Final = 20
MOST_ITERATIONS: Final = 100
CALLS_PER_MINUTE: Final = 10_000
REASONING_ATTEMPTS: Final = 3
GUARDRAIL_RETRIES: Final = 3
SEQUENTIAL, HIERARCHICAL = "sequential", "hierarchical"
WORKS_FIELDS: Final = ("agents", "tasks", "process", "manager_llm", "planning", "planning_llm", "max_rpm")
#: `verbose` has no effect: agents' output is always in the events.
AGENT_FIELDS: Final = (
    *("role", "goal", "backstory", "llm", "tools", "verbose", "allow_delegation", "allow_code_execution", "max_iter"),
    *("temperature", "max_tokens", "max_rpm", "reasoning", "max_reasoning_attempts"),
)
TASK_FIELDS: Final = (
    *("description", "agent", "expected_output", "context", "tools", "async_execution"),
    *("output_json", "output_pydantic", "guardrail", "guardrail_max_retries"),
)


class Fields:
    """The fields of one object of the works.

    Each method raises ExecutorError if the value is invalid.
    """

    def __init__(self, raw: object, place: str, *, known: Sequence[str], filler: Filler | None = None) -> None:
        if not isinstance(raw, dict):
            raise refused(place, "must be an object")
        if unknown := [name for name in raw if name not in known]:
            why = REFUSED.get(unknown[0])
            raise refused(
                f"{place}.{unknown[0]}", f"is refused: {why}" if why else f"is not known{_hint(unknown[0], known)}"
            )
        self.given: Json = raw
        self.place = place
        self._filler = filler

    def mapping(self, name: str) -> list[tuple[str, object]]:
        value = self.given.get(name)
        if value is not None and not isinstance(value, dict):
            raise refused(f"{self.place}.{name}", "must be an object that maps names to definitions")
        return list((value or {}).items())

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self.given.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise refused(f"{self.place}.{name}", "must be a non-empty text")
        return value

    def template(self, name: str, *, default: str | None = None) -> str:
        text = self.text(name, default=default)
        if name not in self.given or self._filler is None:  # our own default is not a template
            return text
        try:
            return self._filler.fill(text)
        except CannotFill as error:
            raise refused(f"{self.place}.{name}", f"has a template that cannot be filled: {error}") from None

    def flag(self, name: str) -> bool:
        value = self.given.get(name)
        if value is not None and not isinstance(value, bool):
            raise refused(f"{self.place}.{name}", "must be true or false")
        return bool(value)

    def whole(self, name: str, *, least: int, most: int, default: int) -> int:
        value = self.given.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise refused(f"{self.place}.{name}", f"must be a whole number from {least} to {most}")
        return value

    def maybe_whole(self, name: str, *, most: int) -> int | None:
        return None if self.given.get(name) is None else self.whole(name, least=1, most=most, default=1)

    def choice(self, name: str, *, among: Sequence[str]) -> str:
        """Return one of these texts; the first is the default."""
        value = self.text(name, default=among[0])
        if value not in among:
            raise refused(f"{self.place}.{name}", f"must be one of {', '.join(among)}")
        return value

    def parameters(self, *names: str) -> Json:
        """Return those parameters of a model that are given."""
        given = {name: self.given[name] for name in names if self.given.get(name) is not None}
        rules = {"properties": {name: PARAMETERS[name] for name in names}}
        if problem := mismatch(rules, given):
            raise refused(self.place, f"has a parameter of the model that does not fit: {problem.rstrip('.')}")
        return given

    def schema(self, *names: str) -> Json | None:
        """Return the JSON Schema of an object, which at most one of these fields has."""
        given = [name for name in names if self.given.get(name) is not None]
        if not given:
            return None
        place, schema = f"{self.place}.{given[0]}", self.given[given[0]]
        if len(given) > 1:
            raise refused(place, f"and {given[1]} mean the same here. Give one of them")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise refused(place, 'must be the JSON Schema of an object, {"type": "object", "properties": {…}}')
        if problem := fault(schema):
            raise refused(place, f"is no JSON Schema: {problem.rstrip('.')}")
        try:
            check_cost(schema)
        except TooCostly as error:
            raise refused(place, str(error)) from None
        return schema

    def names(self, name: str, *, among: Collection[str], what: str) -> tuple[str, ...]:
        value = self.given.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise refused(f"{self.place}.{name}", "must be a list of names")
        for each in value:
            self.check(each, name, among=among, what=what)
        return tuple(dict.fromkeys(value))

    def check(self, value: str, name: str, *, among: Collection[str], what: str) -> None:
        if value not in among:
            raise refused(
                f"{self.place}.{name}", f"names '{value[:100]}', but there is no such {what}{_hint(value, among)}"
            )


def _hint(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:100], known, n=1)
    if close:
        return f". Did you mean '{close[0]}'?"
    return f". Known: {', '.join(known)}" if known else ""


def refused(place: str, why: str) -> ExecutorError:
    return ExecutorError(f"{place} {why}.".replace("?.", "?"), permanent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWork:
    """An agent. With `llm` None it uses the model of the task, or the operator's. `options` are parameters of its calls.

    With `reasoning_attempts` it plans before each task, and refines the plan at most so often.
    """

    name: str
    role: str
    goal: str
    backstory: str
    llm: str | None
    tools: tuple[str, ...]
    allow_delegation: bool
    max_iter: int
    options: Json
    max_rpm: int | None
    reasoning_attempts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWork:
    """A task of the crew.

    `context` names the earlier tasks whose outputs it gets; None: all of them. `agent` is None only in a hierarchical
    crew, where a manager delegates. `schema` is the JSON Schema of its output; None: any text.
    """

    name: str
    description: str
    agent: str | None
    expected_output: str
    context: tuple[str, ...] | None
    tools: tuple[str, ...]
    is_async: bool = False
    schema: Json | None = None
    guardrail: str | None = None
    guardrail_retries: int = GUARDRAIL_RETRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSpec:
    """A crew: its agents, and its tasks in the order of execution. A model that is None is that of the task."""

    agents: tuple[AgentWork, ...]
    tasks: tuple[TaskWork, ...]
    is_hierarchical: bool = False
    manager_llm: str | None = None
    is_planned: bool = False
    planning_llm: str | None = None
    max_rpm: int | None = None

    @property
    def models(self) -> list[str | None]:
        manager = [self.manager_llm] if self.is_hierarchical else []
        planner = [self.planning_llm] if self.is_planned else []
        return [*(agent.llm for agent in self.agents), *manager, *planner]

    @property
    def tools_of_servers(self) -> list[str]:
        """Return the names of tools of MCP servers, `mcp:server.tool`, or `mcp:server` for all of one."""
        return sorted(filter(is_of_server, self.tools))

    @property
    def tools(self) -> set[str]:
        return {tool for agent in self.agents for tool in agent.tools} | {
            tool for task in self.tasks for tool in task.tools
        }


def parse_works(
    raw: object,
    *,
    name: str,
    inputs: Json | None,
    tools: Collection[str],
    place: str = "params.works",
    filler: Filler | None = None,
) -> CrewSpec:
    """Validate works, and fill their templates with the inputs, if these are known.

    Before the run they are not: templates are then left as they are.

    `name` is the name of the task, `tools` are those that the operator offers. Tools of MCP servers are not looked up.

    `filler` is that of all crews of a batch, whose texts are limited together.

    Raises ExecutorError, permanent, which names the invalid field.
    """
    if filler is None and inputs is not None:
        filler = filler_for(inputs)
    works = Fields(raw, place, known=WORKS_FIELDS)
    is_hierarchical = works.choice("process", among=(SEQUENTIAL, HIERARCHICAL)) == HIERARCHICAL
    agents: list[AgentWork] = []
    for key, value in works.mapping("agents"):
        fields = Fields(value, f"{place}.agents.{key}", known=AGENT_FIELDS, filler=filler)
        agents.append(_agent(key, fields, tools))
    if not agents:
        raise refused(f"{place}.agents", "needs at least one agent, with a role")
    tasks: list[TaskWork] = []
    for key, value in works.mapping("tasks"):
        fields = Fields(value, f"{place}.tasks.{key}", known=TASK_FIELDS, filler=filler)
        tasks.append(_task(key, fields, agents, tasks, tools, needs_agent=not is_hierarchical))
    check_async(tasks, place)
    return CrewSpec(
        agents=tuple(agents),
        tasks=tuple(tasks) or _tasks_of(agents, name, inputs),
        is_hierarchical=is_hierarchical,
        manager_llm=works.text("manager_llm", default="") or None,
        is_planned=works.flag("planning"),
        planning_llm=works.text("planning_llm", default="") or None,
        max_rpm=works.maybe_whole("max_rpm", most=CALLS_PER_MINUTE),
    )


def works_and_inputs(params: Mapping[str, Any], inputs: Json) -> tuple[Any, str, Json]:
    """Return the works, where they are, and the inputs for their templates.

    Works are in the params or, from clients that can only send inputs, in these.
    """
    if params.get("works") is None and "works" in inputs:
        return inputs["works"], "inputs.works", {name: value for name, value in inputs.items() if name != "works"}
    return params.get("works"), "params.works", inputs


def filler_for(inputs: Json) -> Filler:
    """Return what fills the templates of a crew, or of all crews of a batch."""
    return Filler(inputs, places=ANY, max_characters=settings.APFLOW.limits.result_bytes)


def _agent(name: str, fields: Fields, tools: Collection[str]) -> AgentWork:
    if fields.flag("allow_code_execution"):
        raise refused(f"{fields.place}.allow_code_execution", "is not supported: a crew cannot run code that it wrote")
    fields.flag("verbose")
    role = fields.template("role")
    attempts = fields.whole("max_reasoning_attempts", least=1, most=MOST_ITERATIONS, default=REASONING_ATTEMPTS)
    return AgentWork(
        name=name,
        role=role,
        goal=fields.template("goal", default=f"Do what is asked of you as {role}, and do it well."),
        backstory=fields.template("backstory", default=f"You work as {role}."),
        llm=fields.text("llm", default="") or None,
        tools=_tools(fields, tools),
        allow_delegation=fields.flag("allow_delegation"),
        max_iter=fields.whole("max_iter", least=1, most=MOST_ITERATIONS, default=ITERATIONS),
        options=fields.parameters("temperature", "max_tokens"),
        max_rpm=fields.maybe_whole("max_rpm", most=CALLS_PER_MINUTE),
        reasoning_attempts=attempts if fields.flag("reasoning") else None,
    )


def _task(
    name: str,
    fields: Fields,
    agents: Sequence[AgentWork],
    before: Sequence[TaskWork],
    tools: Collection[str],
    *,
    needs_agent: bool,
) -> TaskWork:
    earlier = [task.name for task in before]
    agent = fields.text("agent", default=None if needs_agent else "") or None
    if agent is not None:
        fields.check(agent, "agent", among=[agent.name for agent in agents], what="agent of these works")
    has_context = fields.given.get("context") is not None
    return TaskWork(
        name=name,
        description=fields.template("description"),
        agent=agent,
        expected_output=fields.template("expected_output", default=EXPECTED_OUTPUT),
        context=fields.names("context", among=earlier, what="task before this one") if has_context else None,
        tools=_tools(fields, tools),
        is_async=fields.flag("async_execution"),
        schema=fields.schema("output_json", "output_pydantic"),
        guardrail=fields.template("guardrail", default="") or None,
        guardrail_retries=fields.whole(
            "guardrail_max_retries", least=0, most=MOST_ITERATIONS, default=GUARDRAIL_RETRIES
        ),
    )


def _tools(fields: Fields, offered: Collection[str]) -> tuple[str, ...]:
    given = fields.given.get("tools")
    of_servers = (
        [each for each in given if isinstance(each, str) and is_of_server(each)] if isinstance(given, list) else []
    )
    return fields.names("tools", among=[*offered, *of_servers], what="tool of executors.crewai.tools")


def check_servers(works: CrewSpec, place: str) -> None:
    """Raise ExecutorError, permanent, for a tool of an MCP server that is not configured.

    Whether the server has the tool is asked when the crew starts.
    """
    for name in works.tools_of_servers:
        server_and_tool(name, place=place)


def check_async(tasks: Sequence[TaskWork], place: str) -> None:
    """Raise ExecutorError for asynchronous tasks that CrewAI does not run."""
    last = [task.name for task in tasks[-2:] if task.is_async]
    if len(last) == 2:
        raise refused(
            f"{place}.tasks.{last[1]}.async_execution",
            f"is refused, because '{last[0]}' has it too: only one of the last two may",
        )
    for index, task in enumerate(tasks):
        beside: set[str] = set()
        for earlier in reversed(tasks[:index]):
            if not earlier.is_async:
                break
            beside.add(earlier.name)
        if task.is_async and (both := beside & set(task.context or ())):
            raise refused(
                f"{place}.tasks.{task.name}.context",
                f"names '{min(both)}', which runs at the same time. Leave out one async_execution",
            )


def _tasks_of(agents: Sequence[AgentWork], name: str, inputs: Json | None) -> tuple[TaskWork, ...]:
    """Return one task per agent, made of the task's name and inputs, for works without tasks."""
    described = f"{name}\n\nWhat there is to work with:\n{orjson.dumps(inputs).decode()}" if inputs else name
    if len(described) > (limit := settings.APFLOW.limits.result_bytes):
        raise refused("inputs", f"cannot be given to the crew: {TooLong(limit)}")
    return tuple(
        TaskWork(
            name=agent.name,
            description=described,
            agent=agent.name,
            expected_output=EXPECTED_OUTPUT,
            context=None,
            tools=(),
        )
        for agent in agents
    )
