"""Lets a model write a tree of tasks for a requirement.

The tree is validated like a request. With `run` it becomes part of the tree that it was written in.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Spawn
from llmkeys.secret_forms import NAME
from tasks.executors import describe, executor_ids
from tasks.executors.admission import checked
from tasks.executors.crewai.crew_spec import AGENT_FIELDS, TASK_FIELDS, WORKS_FIELDS
from tasks.executors.input_places import named_in
from tasks.executors.llm import fallbacks
from tasks.executors.llm.client import ask
from tasks.executors.llm.demo import is_demo
from tasks.executors.llm.loading import load
from tasks.executors.llm.prompt import MODEL, TREE_WANTED, Prompt, api_base_for, tries_for
from tasks.executors.llm.tool import PREFIX, RUN_TREE, is_flow
from tasks.executors.plugins import plugins
from tasks.rules.exceptions import TasksError

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
    described = (
        f"- {each['id']}: {each['description']} {_text(each['input_schema'])}"
        for each in map(describe, sorted(executors))
    )
    return "\n".join([RULES, *_offers(executors, allowed), "", EXECUTORS, *described])


def _offers(executors: Collection[str], allowed: Allowed) -> Iterator[str]:
    if allowed.secrets:
        yield SECRETS + ", ".join(allowed.secrets) + "."
    if "crewai_executor" in executors:
        text = CREWS
        for name, fields in {"works": WORKS_FIELDS, "agents": AGENT_FIELDS, "tasks": TASK_FIELDS}.items():
            text = text.replace(f"{{{name}}}", f"({', '.join(fields)})")  # only these: the text has further braces
        yield text
        if tools := settings.APFLOW_CREWAI.tools:
            yield f"Tools of agents and tasks of crews: {', '.join(tools)}."
        if crews := settings.APFLOW_CREWAI.crews:
            yield f'params {{"crew": "<name>"}} instead of works runs a crew of the operator, with the inputs: {", ".join(crews)}.'
    names = [*plugins().functions, *settings.APFLOW.executors.llm.tools]
    names += [f"mcp:{server}" for server in settings.APFLOW.executors.mcp.servers or {}]  # all tools of the server
    names += [f"flow:{flow['name']}" for flow in allowed.flows]
    if "llm_executor" in executors and names:
        yield f"inputs.tools of llm_executor lists tools that the model may call by name: {', '.join(names)}."
    if allowed.flows and "run_tree_executor" in executors:
        yield 'run_tree_executor with {"flow": "<name>", "inputs": {…}} runs a flow of the user:'
        for flow in allowed.flows:
            yield f"- {flow['name']}: {flow.get('description') or 'no description'} {_text(flow.get('inputs_schema'))}"


def _text(value: Any) -> str:
    return "" if value is None else orjson.dumps(value).decode()


ATTEMPTS: Final = 2
"""The first answer and one correction."""


class Generate(Executor):
    """Asks a model for a tree, and once more if the first answer is not a valid tree."""

    id = "generate_executor"
    name = "Tree writer"
    description = "Generates a tree of tasks from a requirement in plain words, with a language model. With `run` they are added below this task and run."
    tags = ("ai", "llm")
    extra = "llm"
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "requirement": {
                "type": "string",
                "minLength": 1,
                "maxLength": 40_000,  # of tasks.generate 20,000, of which each double brace becomes two
                "description": "The task of the tree, in plain words",
            },
            "run": {
                "type": "boolean",
                "default": False,
                "description": "Whether the tasks are added below this one and run. Its result is then theirs",
            },
            "model": MODEL
            | {
                "description": "A model as provider/name, or a list: the next one is tried if the one before fails. Default: the server's model"
            },
            "secrets": {
                "type": "array",
                "items": {"type": "string", "pattern": f"^{NAME.pattern}$"},
                "maxItems": 1000,
                "default": [],
                "description": "Names of the secrets that the tree may use, as {{secret.NAME}}",
            },
            "flows": {
                "type": "array",
                "items": FLOW,
                "maxItems": 1000,
                "default": [],
                "description": "Flows of the owner that the tree may run",
            },
        },
        "required": ["requirement"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "tasks": {
                "type": "array",
                "items": {"type": "object"},
                "description": "Tasks, in the format of tasks.create",
            },
            "count": {"type": "integer", "description": "The number of tasks"},
        },
        "required": ["tasks", "count"],
    }
    secret_inputs = frozenset()
    param_names = frozenset({"model", "api_base", "fallback", "hedge"})
    example: ClassVar[Json] = {"requirement": "Look at CPU, memory and disk of this machine, and gather the figures."}
    example_result: ClassVar[Json] = {
        "tasks": [
            {"name": "Look at the CPU", "schemas": {"method": "system_info_executor"}, "inputs": {"resource": "cpu"}}
        ],
        "count": 1,
    }

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        fallbacks.check(params, inputs.get("model"))

    async def execute(self, inputs: Json, context: Context) -> Json | Spawn:
        tries = tries_for(context, inputs.get("model"))
        models = [tries["model"], *tries["others"]]
        allowed = Allowed(secrets=inputs.get("secrets", []), flows=inputs.get("flows", []))
        messages = [
            {"role": "system", "content": instructions(executor_ids() - {Generate.id}, allowed)},
            {"role": "user", "content": inputs["requirement"]},
        ]
        options: Json = {}
        if not any(map(is_demo, models)) and all(
            map(await load("tasks.executors.llm.litellm_calls.takes_json"), models)
        ):
            options["response_format"] = {"type": "json_object"}
        fault = ""
        for attempt in range(1, ATTEMPTS + 1):
            prompt = Prompt(
                **tries,
                messages=messages,
                options=options,
                run_id=context.run_id,
                user_id=context.user_id,
                api_base=api_base_for(context),
            )
            answer = await ask(prompt, spent=context.spent)
            try:
                # Validating thousands of tasks takes a tenth of a second.
                tasks = await asyncio.to_thread(_tasks_in, answer.content or "", allowed)
                return Spawn(tasks=tasks) if inputs.get("run") else {"tasks": tasks, "count": len(tasks)}
            except _NoTree as error:
                fault = str(error)
            context.report(attempt / (ATTEMPTS + 1), f"The tree was rejected: {fault}")
            correction = f"That was refused: {fault} {TREE_WANTED} Mend that, and keep the rest."
            messages += [
                {"role": "assistant", "content": answer.content or ""},
                {"role": "user", "content": correction},
            ]
        raise ExecutorError(
            f"{' and '.join(models)} returned no valid tree in {ATTEMPTS} attempts: {fault} Describe the requirement more precisely."
        )


class _NoTree(Exception):
    """The answer is not a valid tree. The message explains why, to the model and to people."""


def _tasks_in(text: str, allowed: Allowed) -> list[Json]:
    """Return the tree in an answer, valid by the rules of a request. Raises _NoTree."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    end = max(text.rfind("}"), text.rfind("]"))
    try:  # from the first to the last bracket: models often add prose
        value = orjson.loads(text[min(starts) : end + 1] if starts else text)
    except orjson.JSONDecodeError:
        raise _NoTree("the answer is not JSON.") from None
    tasks = value.get("tasks") if isinstance(value, dict) and "tasks" in value else value
    if not isinstance(tasks, list):
        raise _NoTree("the JSON has no list of tasks.")
    if any(isinstance(task, dict) and "user_id" in task for task in tasks):
        raise _NoTree("a task has a user_id, which is not allowed.")
    try:
        spec = checked(tasks)
    except TasksError as error:
        raise _NoTree(error.message) from None
    if unknown := sorted({name for *_, name in named_in(spec)} - set(allowed.secrets)):
        raise _NoTree(f"there is no secret '{unknown[0]}'.")
    if unknown := sorted(_flows_in(tasks) - allowed.names_of_flows):
        known = (
            f"The flows are {', '.join(sorted(allowed.names_of_flows))}." if allowed.flows else "The user has no flows."
        )
        raise _NoTree(f"there is no flow '{unknown[0][:100]}'. {known}")
    return tasks


def _flows_in(tasks: Sequence[Json]) -> set[str]:
    """Return the names of the flows that the tasks run or give to agents, trees within them too."""
    found = set[str]()
    for task in tasks:
        inputs, method = task.get("inputs"), (task.get("schemas") or {}).get("method")
        if not isinstance(inputs, dict):
            continue
        if method == "llm_executor" and isinstance(tools := inputs.get("tools"), list):
            found |= {tool.removeprefix(PREFIX) for tool in tools if isinstance(tool, str) and is_flow(tool)}
        if method == RUN_TREE:
            found |= {inputs["flow"]} if isinstance(inputs.get("flow"), str) else set()
            found |= _flows_in(inputs.get("tasks") or [])
    return found
