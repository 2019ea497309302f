"""Lets a model write a tree of tasks for a requirement.

The tree is validated like a request. With `run` it becomes part of the tree that it was written in.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import orjson

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Spawn
from llmkeys.secret_forms import NAME
from tasks.executors import executor_ids
from tasks.executors.admission import checked
from tasks.executors.generate_prompt import FLOW, Allowed, instructions
from tasks.executors.llm.client import ask
from tasks.executors.llm.demo import is_demo
from tasks.executors.llm.flow_tools import PREFIX, is_flow
from tasks.executors.llm.loading import load
from tasks.executors.llm.prompt import TREE_WANTED, Prompt, api_base_for, model_for
from tasks.executors.llm.tool import RUN_TREE
from tasks.executors.secret_places import named_in
from tasks.rules.exceptions import TasksError

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
            "model": {"type": "string", "minLength": 1, "description": "provider/name. Default: the server's model"},
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
    param_names = frozenset({"model", "api_base"})
    example: ClassVar[Json] = {"requirement": "Look at CPU, memory and disk of this machine, and gather the figures."}
    example_result: ClassVar[Json] = {
        "tasks": [
            {"name": "Look at the CPU", "schemas": {"method": "system_info_executor"}, "inputs": {"resource": "cpu"}}
        ],
        "count": 1,
    }

    async def execute(self, inputs: Json, context: Context) -> Json | Spawn:
        model = model_for(context, inputs.get("model"))
        allowed = Allowed(secrets=inputs.get("secrets", []), flows=inputs.get("flows", []))
        messages = [
            {"role": "system", "content": instructions(executor_ids() - {Generate.id}, allowed)},
            {"role": "user", "content": inputs["requirement"]},
        ]
        options = await _options(model)
        fault = ""
        for attempt in range(1, ATTEMPTS + 1):
            prompt = Prompt(
                model=model,
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
            f"{model} returned no valid tree in {ATTEMPTS} attempts: {fault} Describe the requirement more precisely."
        )


class _NoTree(Exception):
    """The answer is not a valid tree. The message explains why, to the model and to people."""


def _tasks_in(text: str, allowed: Allowed) -> list[Json]:
    """Return the tree in an answer, valid by the rules of a request. Raises _NoTree."""
    value = _json_in(text)
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
        raise _NoTree(f"there is no flow '{unknown[0][:100]}'. {_known_flows(allowed)}")
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


def _known_flows(allowed: Allowed) -> str:
    return f"The flows are {', '.join(sorted(allowed.names_of_flows))}." if allowed.flows else "The user has no flows."


async def _options(model: str) -> Json:
    """Return what makes a model that can answer with JSON do so, and with nothing else."""
    if is_demo(model):
        return {}
    takes_json = await load("tasks.executors.llm.litellm_calls.takes_json")
    return {"response_format": {"type": "json_object"}} if takes_json(model) else {}


def _json_in(text: str) -> Any:
    """Parse the text from the first to the last bracket: models often add prose. Raises _NoTree."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    end = max(text.rfind("}"), text.rfind("]"))
    try:
        return orjson.loads(text[min(starts) : end + 1] if starts else text)
    except orjson.JSONDecodeError:
        raise _NoTree("the answer is not JSON.") from None
