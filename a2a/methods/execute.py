"""tasks.execute: start a run or find the current one; wait for its end or stream its events. Other methods that start a run use it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from django.conf import settings
from msgspec import UNSET, Meta, UnsetType

from a2a.core.mapping import native_tree
from a2a.core.parsing import Condition, EventId, NotWith, OnlyWith, Params, Problem, Text
from a2a.live.sse import open_stream
from a2a.methods.method import OPERATOR, TREE_ERRORS, Rest, method
from a2a.methods.params import NewTasks, Tags, WebhookConfig
from a2a.methods.responses import Execution
from a2a.methods.results import TaskResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.providers import SentKey
from tasks.events import end_of
from tasks.models import Task
from tasks.rules import exceptions as errors
from tasks.rules.exceptions import ResponseTooLarge
from tasks.rules.strict_json import Json
from tasks.services import trees
from tasks.services.messages.webhooks import with_webhook
from tasks.services.runs.run_inputs import with_inputs, with_tags
from tasks.services.trees import queries
from tasks.services.trees.idempotency import Token, once
from tasks.services.trees.submissions import submit
from tasks.services.upkeep.demo import as_demo
from tasks.status import TERMINAL, Status
from tasks.storage import loads

TOO_LARGE: Final = (
    "The tree is too large for one response (limits.response_bytes), so this reply has no task. "
    "Read its tasks one by one with tasks.get."
)

_TREES: Final = pools.SharedCalls(queries.small_trees)
RESUMES: Final = "resume with the task_id of the reply; this request would start another run"
STARTS_ANOTHER: Final = "resume with tasks.execute and the task_id of the reply; this request would start another run"


class Starts(Params, frozen=True, kw_only=True):
    """Base class of the parameters of methods that start a run: waiting, streaming and webhook, the run's tags and its demo mode."""

    CONDITIONS: ClassVar[tuple[Condition, ...]] = (
        NotWith("wait", "use_streaming", "cannot be combined with use_streaming: choose one"),
        OnlyWith("last_event_id", "use_streaming"),
    )
    use_streaming: bool = False
    tags: Tags | None = None
    """Words by which `runs.list` finds the run; None: those of the run before it, if there is one."""
    use_demo: bool = False
    """Each executor returns its example result, and nothing is called."""
    last_event_id: int | str | None = None
    """The id of an event, or its number: browsers store event ids as strings."""
    wait: bool = False
    wait_timeout_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30
    webhook_config: WebhookConfig | None = None

    @property
    def after(self) -> EventId | None:
        """The last event that a resuming client has received, or None."""
        return None if self.last_event_id is None else EventId.parse(self.last_event_id)

    def contradictions(self) -> list[Problem]:
        return super().contradictions() + (self.webhook_config.problems if self.webhook_config else [])


class TakesInputs(Starts, frozen=True, kw_only=True):
    """Base class for methods that start a further run, with inputs merged over those of the run before."""

    run_inputs: dict[str, Any] | None = None
    """Values for `{{run.inputs.topic}}` in the tree, for this run. Inputs of the run before it with other names stay."""
    replace_inputs: bool = False
    """Whether the run has none of the inputs of the run before it."""


class Execute(TakesInputs, frozen=True, kw_only=True):
    """tasks.execute: new `tasks`, or the `task_id` of a stored one."""

    ALIASES = MappingProxyType({"id": "task_id"})
    CONDITIONS = (
        NotWith("task_id", "tasks", "cannot be combined with tasks: send one of them"),
        NotWith("copy_execution", "tasks", "only with task_id: new tasks need no copy"),
        OnlyWith("copy_children", "copy_execution"),
        *Starts.CONDITIONS,
        NotWith("last_event_id", "tasks", RESUMES),
        NotWith("last_event_id", "copy_execution", RESUMES),
    )
    tasks: NewTasks | UnsetType = UNSET
    task_id: Text | None = None
    id_conflict: Literal["rename", "error"] = "rename"
    copy_execution: bool = False
    copy_children: bool = False

    def contradictions(self) -> list[Problem]:
        is_missing = self.tasks is UNSET and self.task_id is None
        missing = [("tasks", "required, or task_id for a stored task")]
        return [*(missing if is_missing else []), *super().contradictions()]


def executed(native: Json) -> tuple[int, Json]:
    """200 if the run has ended, else 202."""
    return (200 if native["status"] in TERMINAL else 202), native


@method(
    "tasks.execute",
    "execute_task_tree",
    role=OPERATOR,
    answer=Execution,
    rest=[
        Rest(
            "executeTask",
            "POST tasks/<task_id>/execute/",
            answers={200: Execution, 202: Execution},
            answered=executed,
            errors=(errors.LimitReached, *TREE_ERRORS),
            without=frozenset({"id_conflict", "last_event_id", "tasks", "use_streaming"}),
        )
    ],
)
async def execute(
    caller: Caller, given: Execute, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Run new tasks or a stored task. Replies at once, unless `wait` is set."""
    execution = None if token else await _resumed(caller, given)
    if execution is None:
        verb: Callable[..., trees.Execution] = trees.execute_tree
        arguments: Json = {"tasks": given.tasks, "id_conflict": given.id_conflict}
        if given.task_id is not None:
            verb, arguments = trees.execute_task, {"task_id": given.task_id}
            arguments |= {"copy_execution": given.copy_execution, "copy_children": given.copy_children}
        execution = await start(caller, given, verb, token=token, llm_key=llm_key, **arguments)
    return await replied(caller, given, execution)


async def start(
    caller: Caller,
    given: Starts,
    verb: Callable[..., trees.Execution],
    *,
    token: Token | None,
    llm_key: SentKey | None,
    **arguments: Any,
) -> trees.Execution:
    """Start a run by a function of `tasks.services`: once for each idempotency token, with the run's inputs, tags, demo mode and webhook.

    Large inputs are stored as files before.
    """
    run_inputs = given.run_inputs if isinstance(given, TakesInputs) else None
    if not is_large(arguments, run_inputs):
        return await _start(caller, given, verb, run_inputs, token=token, llm_key=llm_key, **arguments)
    from a2a.methods.large_inputs import moved  # noqa: PLC0415  (few requests have them)

    async with moved(caller, arguments, run_inputs) as (small, run_inputs):
        return await _start(caller, given, verb, run_inputs, token=token, llm_key=llm_key, **small)


def is_large(*values: Any) -> bool:
    """Return whether JSON values may have one that is to be stored as a file: together they have more than `limits.inline_bytes`."""
    try:
        return len(orjson.dumps(values)) > settings.APFLOW.limits.inline_bytes
    except TypeError:  # a number or a key that no database stores: it is refused by name
        return False


async def _start(
    caller: Caller,
    given: Starts,
    verb: Callable[..., trees.Execution],
    run_inputs: Json | None,
    *,
    token: Token | None,
    llm_key: SentKey | None,
    **arguments: Any,
) -> trees.Execution:
    if isinstance(given, TakesInputs) and (run_inputs is not None or given.replace_inputs):
        verb = partial(with_inputs, verb, run_inputs or {}, replace_inputs=given.replace_inputs)
    if given.tags is not None:
        verb = partial(with_tags, verb, given.tags)
    if given.use_demo:
        verb = partial(as_demo, verb)
    if given.webhook_config is not None:
        verb = partial(with_webhook, verb, given.webhook_config.arguments)
    since = time.monotonic()
    if verb is trees.execute_tree and token is None and llm_key is None:
        execution = await submit(caller=caller, **arguments)
    else:
        execution = await pools.write(partial(once, verb, caller=caller, token=token, llm_key=llm_key, **arguments))
    return replace(execution, since=since)


async def replied(caller: Caller, given: Starts, execution: trees.Execution, **facts: Any) -> TaskResult:
    """Reply to a method that has started a run, with `wait` at its end; with further members of the reply."""
    run, task = execution.run, execution.task
    status = run.status if run.finished_at is not None else None
    tree: Json = {}
    notes: list[str] = []
    if given.wait:
        with suppress(TimeoutError):
            async with asyncio.timeout(given.wait_timeout_seconds):
                status = await end_of(run, since=execution.since)
    if given.wait and status is not None:
        try:
            tree = {"task": await _tree_of(caller, task) | {"run_status": status}}
        except ResponseTooLarge:  # what has been carried out cannot be refused
            notes = [TOO_LARGE]
    message = _message(execution, status, is_waiting=given.wait)
    metadata: Json = {"message": message, "ids": execution.ids}
    if execution.original_task_id is not None:
        metadata["original_task_id"] = execution.original_task_id
    if warnings := [*execution.warnings, *notes]:
        metadata["warnings"] = warnings
    if execution.webhook is not None and given.webhook_config is not None:
        metadata["webhook"] = given.webhook_config.facts_of(execution.webhook)
    metadata |= facts
    return TaskResult(
        native=_native(execution, status, metadata) | tree,
        task=task,
        run=run,
        stream=await open_stream(run, after=given.after) if given.use_streaming else None,
        metadata=metadata,
    )


async def _resumed(caller: Caller, given: Execute) -> trees.Execution | None:
    """Return the latest run, for a client that resumes its stream; None if it does not resume."""
    if given.after is None or given.task_id is None:
        return None
    run = await pools.read(queries.latest_run, caller=caller, task_id=given.task_id)
    if run is None:
        return None
    task = await pools.read(queries.get_task, caller=caller, task_id=given.task_id)
    return trees.Execution(
        task=task, run=run, started=False, original_task_id=None, ids={task.id: task.id}, warnings=[]
    )


async def _tree_of(caller: Caller, task: Task) -> Json:
    """Return the tree of the task. Small ones that are wanted at the same time are read together."""
    tasks = await _TREES.result(caller, task.root_id)
    if tasks is None:
        return await pools.read(lambda: native_tree(queries.get_tree(caller=caller, task_id=task.id, with_texts=True)))
    loads.spend(sum(vars(each)["size"] for each in tasks))
    return native_tree(tasks)


def _native(execution: trees.Execution, status: str | None, metadata: Json) -> Json:
    status = status or ("started" if execution.started else "already_running")
    return {
        "success": status not in (Status.FAILED, Status.CANCELLED),
        "protocol": "jsonrpc",
        "task_id": execution.task.id,
        "root_task_id": execution.task.root_id,
        "status": status,
    } | metadata


def _message(execution: trees.Execution, status: str | None, *, is_waiting: bool) -> str:
    """`status` is that of a run that has ended."""
    if status is not None:
        return f"The run has ended: {status}."
    if is_waiting:
        return "The run did not end within wait_timeout_seconds and continues. Follow its events, or call tasks.tree."
    if execution.started:
        return (
            f"The run has started. Its events are at /tasks/{execution.run.root_id}/events; tasks.tree has its results."
        )
    return "The tree is already running. No further run was started."
