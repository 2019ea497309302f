"""tasks.execute: start a run, or find the one that is under way; wait for it or follow it."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from a2a.core.mapping import native_tree
from a2a.live.sse import Stream, events, open_stream
from a2a.methods.params import Execute
from a2a.methods.results import TaskResult, webhook_metadata
from accounts.callers import Caller
from apflow_db import pools
from llmkeys.header import SentKey
from tasks.models import Run
from tasks.rules.strict_json import Json
from tasks.services import queries, trees
from tasks.services.idempotency import Token, once
from tasks.services.trees import Execution
from tasks.services.webhooks import with_webhook
from tasks.status import Status


async def execute(
    caller: Caller, given: Execute, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Run new tasks or a stored one. Returns at once unless asked to wait."""
    execution = (None if token else await _resumed(caller, given)) or await _started(caller, given, token, llm_key)
    tree = await _final_tree(caller, execution, given) if given.wait else None
    told = _told(execution, is_waiting=given.wait) | webhook_metadata(execution.webhook, given.webhook_config)
    return TaskResult(
        native=_native(execution, told) | ({} if tree is None else {"task": tree}),
        task=execution.task,
        run=execution.run,
        stream=await open_stream(execution.run, after=given.after) if given.use_streaming else None,
        metadata=told,
    )


async def _resumed(caller: Caller, given: Execute) -> Execution | None:
    """The latest run, finished or not, for a client that had part of its stream. None: there is nothing to resume."""
    if given.after is None or given.task_id is None:
        return None
    run = await pools.read(queries.latest_run, caller=caller, task_id=given.task_id)
    if run is None:
        return None
    task = await pools.read(queries.get_task, caller=caller, task_id=given.task_id)
    return Execution(task=task, run=run, started=False, original_task_id=None, ids={task.id: task.id}, warnings=[])


async def _started(caller: Caller, given: Execute, token: Token | None, llm_key: SentKey | None) -> Execution:
    verb, arguments = _verb(given)
    if given.webhook_config is not None:
        verb = partial(with_webhook, verb, given.webhook_config.arguments)
    return await pools.write(partial(once, verb, caller=caller, token=token, llm_key=llm_key, **arguments))


def _verb(given: Execute) -> tuple[Callable[..., Execution], Json]:
    if given.task_id is None:
        return trees.execute_tree, {"tasks": given.tasks, "id_conflict": given.id_conflict}
    return trees.execute_task, {
        "task_id": given.task_id,
        "copy_execution": given.copy_execution,
        "copy_children": given.copy_children,
    }


async def _final_tree(caller: Caller, execution: Execution, given: Execute) -> Json | None:
    """The tree when its run is over, and the run's row brought up to date. None when time is up first."""
    try:
        async with asyncio.timeout(given.wait_timeout_seconds):
            await end_of(execution.run)
    except TimeoutError:
        return None
    await pools.read(execution.run.refresh_from_db)
    if execution.run.finished_at is None:  # this process is told to stop
        return None
    return native_tree(await pools.read(queries.get_tree, caller=caller, task_id=execution.task.id))


async def end_of(run: Run) -> None:
    """Return when the run is over."""
    # An unfinished run has its final event after the newest one that its row knows of.
    async with aclosing(events(Stream(run=run, after=run.last_seq))) as rest:
        async for _ in rest:
            pass


def _native(execution: Execution, told: Json) -> Json:
    status = _status(execution)
    return {
        "success": status not in (Status.FAILED, Status.CANCELLED),
        "protocol": "jsonrpc",
        "task_id": execution.task.id,
        "root_task_id": execution.task.root_id,
        "status": status,
    } | told


def _status(execution: Execution) -> str:
    if execution.run.finished_at is not None:
        return execution.run.status
    return "started" if execution.started else "already_running"


def _told(execution: Execution, *, is_waiting: bool) -> Json:
    """What both shapes of the reply say beside the task."""
    told: Json = {"message": _message(execution, is_waiting=is_waiting), "ids": execution.ids}
    if execution.original_task_id is not None:
        told["original_task_id"] = execution.original_task_id
    if execution.warnings:
        told["warnings"] = execution.warnings
    return told


def _message(execution: Execution, *, is_waiting: bool) -> str:
    if execution.run.finished_at is not None:
        return f"The run is over: {execution.run.status}."
    if is_waiting:
        return "Still running when the time to wait was up. It goes on; ask again or follow its events."
    if execution.started:
        return "The run has started. Follow it with use_streaming, or ask tasks.tree."
    return "A run of this tree is under way already. No other was started."
