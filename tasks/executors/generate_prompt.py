"""The instructions for a model that writes a tree: the rules, the executors, and the resources of the operator and the user."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Json
from tasks.executors import describe
from tasks.executors.crewai.crew_spec import AGENT_FIELDS, TASK_FIELDS, WORKS_FIELDS
from tasks.executors.llm.prompt import TREE_WANTED
from tasks.executors.plugins import plugins

FLOW: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "inputs_schema": {"type": ["object", "null"]},
    },
    "required": ["name"],
}
"""A flow, as the model learns of it."""
RULES: Final = f"""\
You write trees of tasks for a server that runs them. {TREE_WANTED}

The JSON is {{"tasks": [...]}}. Each task has
- "id": a short text, unique in the tree;
- "name": what it does, in a few words;
- "parent_id": the task under which it stands. Exactly one task has none: the root;
- "schemas": {{"method": "<executor>"}}, one of those below, or no "schemas" for a mere group, which completes with its children;
- "inputs": an object that fits the executor's input schema;
- "dependencies": a list of ids of tasks that must complete first. Only dependencies decide the order. What they result in
  is added to the inputs under their ids, and {{{{id.path}}}} in any text of the inputs stands for a value in such a result, such as
  {{{{fetch.json.title}}}}; a text that is nothing else becomes the value itself;
- "params": settings of the executor, such as "works" of a crew, "retry" {{"max_attempts": 3}} or "timeout_seconds"; often left out.
  "when": {{"task": "<id of a dependency>", "path": "/score", "op": "ge", "value": 0.5}} skips the task if that is false; further ops
  are eq, ne, lt, le, gt, in, contains, exists and empty.
  "for_each": {{"items": {{"task": "<id of a dependency>", "path": "/urls"}}, "max_parallel": 5}}, of a task without an executor,
  runs its children once for each item of that list; {{{{item}}}} in their inputs is the item; the result is the list of results.
  "repeat": {{"until": {{"path": "/done", "op": "eq", "value": true}}, "max": 5}} runs a task, or the children of a task without an
  executor, until that is true of the result; {{{{last}}}} in the inputs is the result of the round before;
- "priority": 0 urgent, 1 high, 2 normal, 3 low; often left out.
No other fields. No circles. The usual root is aggregate_results_executor, depending on the tasks whose results matter. Use as few
tasks as do the work, and no credentials.
"""
SECRETS: Final = (
    "Where a service needs credentials, {{secret.NAME}} in the inputs stands for a secret that is filled in later, alone or in a "
    "longer text; never in prompts, questions and groups. The names are: "
)
CREWS: Final = (
    "params.works of crewai_executor is a crew: {works} with agents {agents} and tasks {tasks}, such as "
    '{"agents": {"writer": {"role": "Writer", "goal": "Write on {topic}"}}, "tasks": {"write": {"description": "Write a page on '
    '{topic}.", "agent": "writer", "expected_output": "A page"}}}; {topic} is an input of the task. Leave out the llm of agents.'
)
EXECUTORS: Final = "The executors, each with its input schema:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The resources of its owner that a tree may use: secrets by name, and flows as FLOW describes them."""

    secrets: Sequence[str]
    flows: Sequence[Json]

    @property
    def names_of_flows(self) -> set[str]:
        return {flow["name"] for flow in self.flows}


def instructions(executors: Collection[str], allowed: Allowed) -> str:
    """Return the first message to the model."""
    return "\n".join([RULES, *_offers(executors, allowed), "", EXECUTORS, *_described(executors)])


def _described(executors: Collection[str]) -> Iterator[str]:
    for each in map(describe, sorted(executors)):
        yield f"- {each['id']}: {each['description']} {_text(each['input_schema'])}"


def _offers(executors: Collection[str], allowed: Allowed) -> Iterator[str]:
    if allowed.secrets:
        yield SECRETS + ", ".join(allowed.secrets) + "."
    if "crewai_executor" in executors:
        fields = {"works": WORKS_FIELDS, "agents": AGENT_FIELDS, "tasks": TASK_FIELDS}
        yield _filled(CREWS, {name: f"({', '.join(names)})" for name, names in fields.items()})
        yield from _crews()
    if "llm_executor" in executors and (tools := [*_tools(allowed)]):
        yield f"inputs.tools of llm_executor lists tools that the model may call by name: {', '.join(tools)}."
    if allowed.flows and "run_tree_executor" in executors:
        yield 'run_tree_executor with {"flow": "<name>", "inputs": {…}} runs a flow of the user:'
        for flow in allowed.flows:
            yield f"- {flow['name']}: {flow.get('description') or 'no description'} {_text(flow.get('inputs_schema'))}"


def _tools(allowed: Allowed) -> Iterator[str]:
    """Yield the tools of agents by name; a name of an MCP server stands for all of its tools."""
    yield from plugins().functions
    yield from settings.APFLOW.executors.llm.tools
    yield from (f"mcp:{server}" for server in settings.APFLOW.executors.mcp.servers or {})
    yield from (f"flow:{flow['name']}" for flow in allowed.flows)


def _crews() -> Iterator[str]:
    if tools := settings.APFLOW_CREWAI.tools:
        yield f"Tools of agents and tasks of crews: {', '.join(tools)}."
    if crews := settings.APFLOW_CREWAI.crews:
        yield f'params {{"crew": "<name>"}} instead of works runs a crew of the operator, with the inputs: {", ".join(crews)}.'


def _filled(text: str, values: dict[str, str]) -> str:
    """Only these names: the text has further braces."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _text(value: Any) -> str:
    return "" if value is None else orjson.dumps(value).decode()
