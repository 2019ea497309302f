"""Lets a model write a tree of tasks for a requirement.

The tree is validated like a request. With `run` it becomes part of the tree that it was written in.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final

import orjson

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Spawn
from llmkeys.secret_forms import NAME
from tasks.executors import describe, executor_ids
from tasks.executors.admission import checked
from tasks.executors.llm.client import ask
from tasks.executors.llm.prompt import TREE_WANTED, Prompt, api_base_for, model_for
from tasks.executors.secret_places import named_in
from tasks.rules.exceptions import TasksError

ATTEMPTS: Final = 2
"""The first answer and one correction."""
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
tasks as do the work, and no credentials. {{secrets}}

The executors, each with its input schema:
"""


SECRETS: Final = (
    "Where a service needs credentials, {{secret.NAME}} in the inputs stands for a secret that is filled in later, alone or in a "
    "longer text; never in prompts, questions and groups. The names are: "
)


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
                "description": "What the tree should do",
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
            "count": {"type": "integer", "description": "How many tasks there are"},
        },
        "required": ["tasks", "count"],
    }
    secret_inputs = frozenset()
    example: ClassVar[Json] = {"requirement": "Look at CPU, memory and disk of this machine, and gather the figures."}
    example_result: ClassVar[Json] = {
        "tasks": [
            {"name": "Look at the CPU", "schemas": {"method": "system_info_executor"}, "inputs": {"resource": "cpu"}}
        ],
        "count": 1,
    }

    async def execute(self, inputs: Json, context: Context) -> Json | Spawn:
        model, api_base = model_for(context, inputs.get("model")), api_base_for(context)
        secrets = inputs.get("secrets", [])
        messages = [
            {"role": "system", "content": _instructions(secrets)},
            {"role": "user", "content": inputs["requirement"]},
        ]
        fault = ""
        for attempt in range(1, ATTEMPTS + 1):
            prompt = Prompt(
                model=model, messages=messages, run_id=context.run_id, user_id=context.user_id, api_base=api_base
            )
            answer = await ask(prompt, spent=context.spent)
            try:
                # Validating thousands of tasks takes a tenth of a second.
                tasks = await asyncio.to_thread(_tasks_in, answer.content or "", secrets)
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


def _instructions(secrets: Sequence[str]) -> str:
    about = (describe(executor_id) for executor_id in sorted(executor_ids() - {Generate.id}))
    lines = [f"- {each['id']}: {each['description']} {orjson.dumps(each['input_schema']).decode()}" for each in about]
    return RULES.replace("{secrets}", SECRETS + ", ".join(secrets) + "." if secrets else "") + "\n".join(lines)


def _tasks_in(text: str, secrets: Collection[str]) -> list[Json]:
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
    if unknown := sorted({name for *_, name in named_in(spec)} - set(secrets)):
        raise _NoTree(f"there is no secret '{unknown[0]}'.")
    return tasks


def _json_in(text: str) -> Any:
    """Parse the text from the first to the last bracket: models often add prose. Raises _NoTree."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    end = max(text.rfind("}"), text.rfind("]"))
    try:
        return orjson.loads(text[min(starts) : end + 1] if starts else text)
    except orjson.JSONDecodeError:
        raise _NoTree("the answer is not JSON.") from None
