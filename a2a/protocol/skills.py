"""The skills of this agent, each with an example that works as a text message, and how texts are read for them."""

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import orjson
from django.conf import settings

from tasks.executors import describe, executor_ids
from tasks.executors.plugins import plugins
from tasks.rules.schema import mismatch
from tasks.rules.strict_json import Json, MalformedJson, decode

TEXT_INPUTS: Final = ("prompt", "text", "message", "requirement", "query", "question")
"""Names of text inputs. The first one in the input schema of the executor receives the text."""
FILES: Final = "files"
"""The input of executors that receives the files of a message, and the input of runs that has them."""
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
    usable = [each for each in sorted(executor_ids()) if each != "python_executor" or plugins().functions]
    described = [describe(executor_id) for executor_id in usable]
    names = [each["name"] for each in described]
    found = [TREES]
    for each in described:
        own_example = EXAMPLES.get(each["id"])
        inputs = own_example(each["example"]) if own_example else each["example"] or None
        example = None
        if inputs is not None and not mismatch(each["input_schema"], inputs):
            name = each["name"] if names.count(each["name"]) == 1 else each["id"]
            example = f"{name}: {as_text(inputs, each['input_schema'])}" if inputs else name
        found.append(
            Skill(
                id=each["id"],
                name=each["name"],
                description=each["description"],
                tags=tuple(dict.fromkeys(("executor", *each["tags"]))),
                input_schema=each["input_schema"],
                example=example,
            )
        )
    return found


# --- examples that depend on this installation ---


def _unknown(inputs: Json) -> Json | None:
    """No example: the server knows no other server, agent or graph, and no function that does no harm."""
    return None


def _with_model(inputs: Json) -> Json | None:
    """Return a skill with the server's model or the demo model, which need nothing from the client; None without either."""
    rest = {name: value for name, value in inputs.items() if name not in ("model", "temperature")}
    if settings.APFLOW_LLM.default_model:
        return rest
    return rest | {"model": DEMO_MODEL} if settings.APFLOW_LLM.demo else None


def _with_models_of_agents(inputs: Json) -> Json | None:
    """Return a crew, or a batch of them, with the server's model or the demo model for each agent; None without either."""
    if settings.APFLOW_LLM.default_model:
        return inputs
    if not settings.APFLOW_LLM.demo:
        return None
    inputs = deepcopy(inputs)
    works = inputs["works"]
    for crew in [works] if "agents" in works else works.values():
        for agent in crew["agents"].values():
            agent["llm"] = DEMO_MODEL
    return inputs


EXAMPLES: Final[Mapping[str, Callable[[Json], Json | None]]] = MappingProxyType(
    {
        "a2a_executor": _unknown,
        "aggregate_results_executor": lambda inputs: {},  # it works without inputs
        "apflow_api_executor": _unknown,
        "batch_crewai_executor": _with_models_of_agents,
        "command_executor": lambda inputs: inputs if inputs["argv"][0] in settings.APFLOW_COMMAND.allow else None,
        "crewai_executor": _with_models_of_agents,
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


# --- texts ---


class Named(NamedTuple):
    """A skill that a text begins with, and the rest of the text."""

    skill_id: str
    rest: str


def object_in(text: str, *, nesting: int) -> Json | None:
    """Return the JSON object that the text is; None if it is something else. Raises MalformedJson if it only looks like one."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    value = decode(text.encode(), nesting=nesting)
    return value if isinstance(value, dict) else None


def named_in(text: str, names: Iterable[tuple[str, str]], *, needs_colon: bool) -> Named | None:
    """Return the skill whose id or name the text begins with, in upper or lower case.

    `names` are ids and names. The longest match counts. `needs_colon`: a colon must follow a name,
    so that a sentence that begins with a common word is only a sentence.
    """
    found: list[tuple[int, Named]] = []
    for skill_id, name in names:
        for start, is_id in ((skill_id, True), (name, False)):
            match = re.match(rf"{re.escape(start)}(?:(?P<colon>\s*:)|(?![\w-]))", text, re.IGNORECASE)
            if match is not None and (is_id or not needs_colon or match["colon"] is not None):
                found.append((len(start), Named(skill_id, text[match.end() :].strip())))
    return max(found, key=lambda each: each[0])[1] if found else None


def takes_files(schema: Json) -> bool:
    """Return whether the executor has an input `files`: a list, or an object with the files by name."""
    return FILES in schema.get("properties", {})


def text_input(schema: Json) -> str:
    """Return the name of the input that receives a text: one for texts, else the first that is required, else the first."""
    properties = schema.get("properties", {})
    known = [name for name in TEXT_INPUTS if name in properties]
    required = [name for name in schema.get("required", ()) if name in properties]
    return next(iter((*known, *required, *properties)), "text")


def inputs_of(text: str, schema: Json, *, nesting: int) -> Json:
    """Return the inputs that a text after the name of a skill gives: a JSON object, or the value of one input.

    Raises MalformedJson for a text that only looks like a JSON object.
    """
    if not text:
        return {}
    name, properties = text_input(schema), schema.get("properties", {})
    try:
        found = object_in(text, nesting=nesting)
    except MalformedJson:
        if name in TEXT_INPUTS:
            return {name: text}
        raise
    if found is not None and (name not in TEXT_INPUTS or not properties or found.keys() & properties.keys()):
        return found
    schema_of_text = {"type": "object", "properties": {"text": properties.get(name, {})}}
    if mismatch(schema_of_text, {"text": text}) is None:
        return {name: text}
    try:
        return {name: orjson.loads(text)}
    except orjson.JSONDecodeError:
        return {name: text}


def as_text(inputs: Json, schema: Json) -> str:
    """Return the text for which `inputs_of` returns these inputs, as short as possible."""
    properties = schema.get("properties", {})
    given = {name: value for name, value in inputs.items() if value != properties.get(name, {}).get("default", inputs)}
    name = text_input(schema)
    if given.keys() == {name} and isinstance(given[name], str | int | float):
        return str(given[name])
    return orjson.dumps(given).decode()
