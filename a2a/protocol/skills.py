"""The skills of this agent, each with an example that works as a text message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import orjson
from django.conf import settings

from a2a.protocol.plain_text import as_text
from tasks.executors import describe, executor_ids
from tasks.executors.plugins import plugins
from tasks.rules.schema import mismatch
from tasks.rules.strict_json import Json

TREE_SKILL: Final = "execute-task-tree"
TREE_PREFIX: Final = "tree:"
"""Prefix of the skill ids of stored trees; the task id follows."""
EXAMPLE_TREE: Final[Json] = {"tasks": [{"id": "task1", "name": "my_task", "inputs": {"key": "value"}}]}
DEMO_MODEL: Final = "demo/demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A skill. `example` is a text that runs it; None if only this installation's users know one."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    input_schema: Json
    example: str | None = None


TREES: Final = Skill(
    id=TREE_SKILL,
    name="Execute a task tree",
    description="Store a tree of tasks and run it: independent tasks in parallel, each after its dependencies.",
    tags=("tasks", "orchestration", "workflow"),
    input_schema={"type": "object", "properties": {"tasks": {}}, "required": ["tasks"]},
    example=orjson.dumps(EXAMPLE_TREE).decode(),
)


def skills() -> list[Skill]:
    """Return all skills: `execute-task-tree`, and one for each executor that can be used."""
    usable = (each for each in sorted(executor_ids()) if each != "python_executor" or plugins().functions)
    found = [_skill(describe(executor_id)) for executor_id in usable]
    names = [skill.name for skill in found]
    return [TREES, *(_with_example(skill, is_unique=names.count(skill.name) == 1) for skill in found)]


def _skill(described: Json) -> Skill:
    return Skill(
        id=described["id"],
        name=described["name"],
        description=described["description"],
        tags=tuple(dict.fromkeys(("executor", *described["tags"]))),
        input_schema=described["input_schema"],
    )


def _with_example(skill: Skill, *, is_unique: bool) -> Skill:
    inputs = EXAMPLES.get(skill.id, _declared)(describe(skill.id)["example"])
    if inputs is None or mismatch(skill.input_schema, inputs):
        return skill
    name = skill.name if is_unique else skill.id
    return replace(skill, example=f"{name}: {as_text(inputs, skill.input_schema)}" if inputs else name)


# --- examples that depend on this installation ---


def _declared(inputs: Json) -> Json | None:
    return inputs or None


def _unknown(inputs: Json) -> Json | None:
    """No example: the server knows no other server, agent or graph, and no function that does no harm."""
    return None


def _with_model(inputs: Json) -> Json | None:
    """Return a skill with the server's model or the demo model, which need nothing from the client; None without either."""
    rest = {name: value for name, value in inputs.items() if name not in ("model", "temperature")}
    if settings.APFLOW_LLM.default_model:
        return rest
    return rest | {"model": DEMO_MODEL} if settings.APFLOW_LLM.demo else None


def _with_models_of_crew(inputs: Json) -> Json | None:
    works = _works(inputs["works"])
    return None if works is None else inputs | {"works": works}


def _with_models_of_crews(inputs: Json) -> Json | None:
    works = {name: _works(each) for name, each in inputs["works"].items()}
    return None if None in works.values() else inputs | {"works": works}


def _works(works: Json) -> Json | None:
    if settings.APFLOW_LLM.default_model:
        return works
    if not settings.APFLOW_LLM.demo:
        return None
    return works | {"agents": {name: agent | {"llm": DEMO_MODEL} for name, agent in works["agents"].items()}}


EXAMPLES: Final[Mapping[str, Callable[[Json], Json | None]]] = MappingProxyType(
    {
        "a2a_executor": _unknown,
        "aggregate_results_executor": lambda inputs: {},  # it works without inputs
        "apflow_api_executor": _unknown,
        "batch_crewai_executor": _with_models_of_crews,
        "command_executor": lambda inputs: inputs if inputs["argv"][0] in settings.APFLOW_COMMAND.allow else None,
        "crewai_executor": _with_models_of_crew,
        "echo_executor": lambda inputs: {"text": "hello"},
        # It ends soon without the event: a client that tries the example would wait for days.
        "event_executor": lambda inputs: inputs | {"timeout_seconds": 3, "on_timeout": "complete"},
        "generate_executor": _with_model,
        "langgraph_executor": _unknown,
        "llm_executor": _with_model,
        "mcp_executor": _unknown,
        "python_executor": _unknown,
    }
)
"""Executor → its example here, from the one that it declares; None if there is none."""
