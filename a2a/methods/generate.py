"""tasks.generate: a language model writes a tree.

A worker runs this as a task; the method waits for it.
"""

import asyncio
from types import MappingProxyType
from typing import Annotated, Final

from django.conf import settings
from msgspec import UNSET, Meta, UnsetType

from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, Response, method
from a2a.methods.results import DataResult
from a2a.methods.task_schemas import NewTask
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys import named_secrets
from llmkeys.providers import SentKey
from tasks.events import end_of
from tasks.rules.exceptions import GenerationFailed, InvalidParams
from tasks.rules.places import escaped
from tasks.rules.strict_json import Json
from tasks.services import trees
from tasks.services.flows import flow_lists
from tasks.services.trees import queries
from tasks.status import Status

WAIT_SECONDS: Final = 180.0
EXECUTOR: Final = "generate_executor"
NAME_CHARACTERS: Final = 80
NO_MODEL: Final = (
    "is required, such as openai/gpt-4o, or demo/demo to try without a key: the operator has not set llm.default_model"
)
MOST_FLOWS: Final = 100
"""The number of flows that the model learns of: the ones that were saved last."""


class Generate(Params, frozen=True, kw_only=True):
    """tasks.generate"""

    ALIASES = MappingProxyType({"llm_model": "model"})
    requirement: Annotated[str, Meta(min_length=1, max_length=20_000)]
    model: Text | None = None
    save: bool = False
    run: bool = False
    """Whether the tree is stored and run at once."""


class Generated(Response, frozen=True, kw_only=True):
    """A generated tree. `root_task_id` is present if it was stored, `run_id` if it runs."""

    tasks: list[NewTask]
    count: int
    message: str
    root_task_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET


@method("tasks.generate", role=OPERATOR, answer=Generated)
async def generate(caller: Caller, given: Generate, *, llm_key: SentKey | None = None) -> DataResult:
    """Generate a tree for a requirement with a language model; with `save`, store it, and with `run`, run it, too."""
    task = await task_that_writes(caller, requirement=given.requirement, model=given.model)
    execution = await pools.write(trees.execute_tree, caller=caller, tasks=task, llm_key=llm_key)
    task_id = execution.task.id
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await end_of(execution.run)
    except TimeoutError:
        late = f"The tree was not generated within {WAIT_SECONDS:g} s. It will be the result of task '{task_id}': call tasks.get later."
        raise GenerationFailed(late, data={"task_id": task_id}) from None
    writer = await pools.read(queries.get_task, caller=caller, task_id=task_id)
    if writer.status != Status.COMPLETED:
        raise GenerationFailed(writer.error or "", data={"task_id": task_id})
    tasks: list[Json] = writer.result["tasks"]
    native: Json = {"tasks": tasks, "count": len(tasks)}
    if given.run:
        started = await pools.write(trees.execute_tree, caller=caller, tasks=tasks, llm_key=llm_key)
        ids = {"root_task_id": started.run.root_id, "run_id": started.run.id}
        return DataResult(native={**native, "message": "The tree is stored and runs.", **ids})
    if not given.save:
        return DataResult(
            native={**native, "message": "The tree is not stored. Pass it to tasks.create or tasks.execute."}
        )
    created = await pools.write(trees.create_tree, caller=caller, tasks=tasks)
    stored = {"message": "The tree is stored. Run it with tasks.execute.", "root_task_id": created.root.id}
    return DataResult(native=native | stored)


async def task_that_writes(caller: Caller, *, requirement: str, model: str | None) -> Json:
    """Return the task that generates. The requirement is text: what looks like a place in it is for the model.

    Raises InvalidParams if there is no model.
    """
    if model is None and settings.APFLOW_LLM.default_model is None:
        raise InvalidParams([("model", NO_MODEL)])
    secrets = await pools.read(named_secrets.usable_names, user_id=caller.user_id)
    known = await pools.read(flow_lists.descriptions_of, user_id=caller.user_id, most=MOST_FLOWS)
    return {
        "name": f"Write a tree: {requirement}"[:NAME_CHARACTERS],
        "schemas": {"method": EXECUTOR},
        "inputs": {
            "requirement": escaped(requirement),
            "secrets": secrets,
            **({"flows": escaped(known)} if known else {}),
            **({} if model is None else {"model": model}),
        },
    }
