"""Parse `works`: validate a crew's agents and tasks and fill their templates.

Does not import CrewAI.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from tasks.rules.templates import ANY, CannotFill, Filler, TooLong

EXPECTED_OUTPUT: Final = "A complete answer, in plain text."
ITERATIONS: Final = 20
MOST_ITERATIONS: Final = 100
#: `verbose` has no effect: agents' output is always in the events.
AGENT_FIELDS: Final = (
    *("role", "goal", "backstory", "llm", "tools", "verbose", "allow_delegation", "allow_code_execution", "max_iter"),
)
TASK_FIELDS: Final = ("description", "agent", "expected_output", "context", "tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWork:
    """An agent. With `llm` None it uses the model of the task, or the operator's."""

    name: str
    role: str
    goal: str
    backstory: str
    llm: str | None
    tools: tuple[str, ...]
    allow_delegation: bool
    max_iter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWork:
    """A task of the crew.

    `context` names the earlier tasks whose outputs it gets; None: all of them.
    """

    name: str
    description: str
    agent: str
    expected_output: str
    context: tuple[str, ...] | None
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSpec:
    """A crew: its agents, and its tasks in the order of execution."""

    agents: tuple[AgentWork, ...]
    tasks: tuple[TaskWork, ...]

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

    `name` is the name of the task, `tools` are those that the operator offers.

    `filler` is that of all crews of a batch, whose texts are limited together.

    Raises ExecutorError, permanent, which names the invalid field.
    """
    if filler is None and inputs is not None:
        filler = filler_for(inputs)
    works = _Fields(raw, place, known=("agents", "tasks"))
    agents: list[AgentWork] = []
    for key, value in works.mapping("agents"):
        fields = _Fields(value, f"{place}.agents.{key}", known=AGENT_FIELDS, filler=filler)
        agents.append(_agent(key, fields, tools))
    if not agents:
        raise _refused(f"{place}.agents", "needs at least one agent, with a role")
    tasks: list[TaskWork] = []
    for key, value in works.mapping("tasks"):
        fields = _Fields(value, f"{place}.tasks.{key}", known=TASK_FIELDS, filler=filler)
        tasks.append(_task(key, fields, agents, tasks, tools))
    return CrewSpec(agents=tuple(agents), tasks=tuple(tasks) or _tasks_of(agents, name, inputs))


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


def _agent(name: str, fields: "_Fields", tools: Collection[str]) -> AgentWork:
    if fields.flag("allow_code_execution"):
        raise _refused(f"{fields.place}.allow_code_execution", "is not supported: a crew cannot run code that it wrote")
    fields.flag("verbose")
    role = fields.template("role")
    return AgentWork(
        name=name,
        role=role,
        goal=fields.template("goal", default=f"Do what is asked of you as {role}, and do it well."),
        backstory=fields.template("backstory", default=f"You work as {role}."),
        llm=fields.text("llm", default="") or None,
        tools=fields.names("tools", among=tools, what="tool of executors.crewai.tools"),
        allow_delegation=fields.flag("allow_delegation"),
        max_iter=fields.whole("max_iter", least=1, most=MOST_ITERATIONS, default=ITERATIONS),
    )


def _task(
    name: str, fields: "_Fields", agents: Sequence[AgentWork], before: Sequence[TaskWork], tools: Collection[str]
) -> TaskWork:
    earlier = [task.name for task in before]
    agent = fields.text("agent")
    fields.check(agent, "agent", among=[agent.name for agent in agents], what="agent of these works")
    has_context = fields.given.get("context") is not None
    return TaskWork(
        name=name,
        description=fields.template("description"),
        agent=agent,
        expected_output=fields.template("expected_output", default=EXPECTED_OUTPUT),
        context=fields.names("context", among=earlier, what="task before this one") if has_context else None,
        tools=fields.names("tools", among=tools, what="tool of executors.crewai.tools"),
    )


def _tasks_of(agents: Sequence[AgentWork], name: str, inputs: Json | None) -> tuple[TaskWork, ...]:
    """Return one task per agent, made of the task's name and inputs, for works without tasks."""
    described = f"{name}\n\nWhat there is to work with:\n{orjson.dumps(inputs).decode()}" if inputs else name
    if len(described) > (limit := settings.APFLOW.limits.result_bytes):
        raise _refused("inputs", f"cannot be given to the crew: {TooLong(limit)}")
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


class _Fields:
    """The fields of one object of the works.

    Each method raises ExecutorError if the value is invalid.
    """

    def __init__(self, raw: object, place: str, *, known: Sequence[str], filler: Filler | None = None) -> None:
        if not isinstance(raw, dict):
            raise _refused(place, "must be an object")
        if unknown := [name for name in raw if name not in known]:
            raise _refused(f"{place}.{unknown[0]}", f"is not known{_hint(unknown[0], known)}")
        self.given: Json = raw
        self.place = place
        self._filler = filler

    def mapping(self, name: str) -> list[tuple[str, object]]:
        value = self.given.get(name)
        if value is not None and not isinstance(value, dict):
            raise _refused(f"{self.place}.{name}", "must be an object that maps names to definitions")
        return list((value or {}).items())

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self.given.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise _refused(f"{self.place}.{name}", "must be a non-empty text")
        return value

    def template(self, name: str, *, default: str | None = None) -> str:
        text = self.text(name, default=default)
        if name not in self.given or self._filler is None:  # our own default is not a template
            return text
        try:
            return self._filler.fill(text)
        except CannotFill as error:
            raise _refused(f"{self.place}.{name}", f"has a template that cannot be filled: {error}") from None

    def flag(self, name: str) -> bool:
        value = self.given.get(name)
        if value is not None and not isinstance(value, bool):
            raise _refused(f"{self.place}.{name}", "must be true or false")
        return bool(value)

    def whole(self, name: str, *, least: int, most: int, default: int) -> int:
        value = self.given.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise _refused(f"{self.place}.{name}", f"must be a whole number from {least} to {most}")
        return value

    def names(self, name: str, *, among: Collection[str], what: str) -> tuple[str, ...]:
        value = self.given.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise _refused(f"{self.place}.{name}", "must be a list of names")
        for each in value:
            self.check(each, name, among=among, what=what)
        return tuple(dict.fromkeys(value))

    def check(self, value: str, name: str, *, among: Collection[str], what: str) -> None:
        if value not in among:
            raise _refused(
                f"{self.place}.{name}", f"names '{value[:100]}', but there is no such {what}{_hint(value, among)}"
            )


def _hint(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:100], known, n=1)
    if close:
        return f". Did you mean '{close[0]}'?"
    return f". Known: {', '.join(known)}" if known else ""


def _refused(place: str, why: str) -> ExecutorError:
    return ExecutorError(f"{place} {why}.".replace("?.", "?"), permanent=True)
