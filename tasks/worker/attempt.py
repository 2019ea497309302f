"""One attempt at a task: validate the inputs, run the executor, return an outcome, with the tasks that it asks to spawn."""

import asyncio
import logging
import os
import sys
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson
from django.conf import settings

import tasks
from aipartnerupflow.executors import Context, Executor, ExecutorError, Parked, Spawn, Stopped
from tasks.executors.workflows import StepRaised
from tasks.pools.base import Pool, RaisedElsewhere
from tasks.pools.fair_semaphore import FairSemaphore
from tasks.rules.conditions import ABSENT, value_at
from tasks.rules.forms import fault_of_form
from tasks.rules.schema import CPU_SECONDS, NO_RULE, is_light, mismatch
from tasks.rules.spawns import WRAPPER, settings_of
from tasks.rules.stored_results import stored_form
from tasks.rules.strict_json import Json
from tasks.rules.waits import SCHEMA, fault_of_assignees
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, cancelled, completed_in_turn, failed


def spawn_in(result: Any, params: Mapping[str, Any]) -> Spawn | None:
    """Return what the result spawns, or None. Raises ExecutorError, permanent, if `params.spawn` finds no tasks."""
    if isinstance(result, Spawn):
        return result
    settings = settings_of(params)
    if settings is None:
        return None
    found = _unwrapped(value_at(settings.path, result))
    if not isinstance(found, list):
        where = f"what is at '{settings.path}' in the result" if settings.path else "the result"
        raise ExecutorError(
            f"params.spawn finds no tasks: {where} is no list, and no object with a list as 'tasks'.", permanent=True
        )
    if len(found) > settings.max_tasks:
        raise ExecutorError(
            f"The result has {len(found):,} tasks, more than the {settings.max_tasks:,} of params.spawn.max_tasks.",
            permanent=True,
        )
    return Spawn(tasks=found, join=settings.join, result=None if settings.join else result) if found else None


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        value = value.get(WRAPPER, value)
    return value.get("tasks", ABSENT) if isinstance(value, dict) else value


JUDGES: Final = 2
"""Processes that validate inputs at the same time, per worker process."""
WALL_SECONDS: Final = 60
"""The time for a validation on a machine too busy to give it its processor time."""
PACKAGES: Final = str(Path(tasks.__path__[0]).parent)
TOO_LONG: Final = (
    "Validating the inputs against schemas.input_schema takes too long: it was stopped after "
    f"{CPU_SECONDS} s of processor time. Simplify the schema, or send smaller inputs."
)


async def user_mismatch(task: LoadedTask, inputs: Json) -> str | None:
    """Describe why the inputs do not match the task's own schema; None if they match.

    Raises ExecutorError if that takes too long.
    """
    schema = task.schemas.get("input_schema", {})
    if schema in NO_RULE or is_light(schema, inputs):
        return mismatch(schema, inputs)
    async with _judges(asyncio.get_running_loop()).turn(task.user_id, task.priority):
        return await _judged(orjson.dumps([schema, inputs]))


@lru_cache(maxsize=1)
def _judges(_loop: asyncio.AbstractEventLoop) -> FairSemaphore:
    """Return the semaphore of the worker on this loop."""
    return FairSemaphore(JUDGES)


async def _judged(question: bytes) -> str | None:
    try:
        async with asyncio.timeout(WALL_SECONDS), _judge() as judge:
            answer, _ = await judge.communicate(question)
    except TimeoutError:
        raise ExecutorError(TOO_LONG, permanent=True) from None
    if judge.returncode != 0:
        raise ExecutorError(TOO_LONG, permanent=True)
    found: str | None = orjson.loads(answer)
    return found


@asynccontextmanager
async def _judge() -> AsyncIterator[Process]:
    """Start `tasks.rules.schema`; kill it if it is still running at the end."""
    judge = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tasks.rules.schema"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**os.environ, "PYTHONPATH": PACKAGES},
    )
    try:
        yield judge
    finally:
        if judge.returncode is None:
            judge.kill()
            await judge.wait()


logger = logging.getLogger(__name__)
HOW_TO_CORRECT: Final = (
    "Correct the inputs and run the tree from this task: tasks.fork, or 'Edit and run from here' on the task's page; "
    "or send the tree again with corrected inputs."
)
STOP_SECONDS: Final = 2.0
"""The seconds that a cancelled executor may take to stop; then the task is cancelled without it."""


class NotStored(Exception):
    """The beginning of the effect could not be stored, so it did not begin. The cause ends the run in this worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of an attempt, and its place."""

    executor: Executor
    pool: Pool
    inputs: Json
    context: Context
    max_bytes: int
    """The size that the result may have, as JSON."""
    is_checked: bool = True
    """Whether the inputs have to match the schemas."""
    is_demo: bool = False
    """Whether the result is only an example."""


async def attempt(task: LoadedTask, work: Work, *, why_cancelled: Callable[[], str | None]) -> Outcome:
    """Execute once. `why_cancelled` returns the message of a request to cancel this task, or None.

    Raises Parked if the executor does, asyncio.CancelledError if the worker stops, what kept the
    beginning of the effect from being stored, and nothing else.
    """
    executor, inputs = work.executor, work.inputs
    timeout_seconds = task.params.get("timeout_seconds")
    deadline = asyncio.timeout(timeout_seconds)
    try:
        async with deadline:
            if work.is_checked and (
                problem := mismatch(executor.input_schema, inputs) or await user_mismatch(task, inputs)
            ):
                return failed(f"The inputs do not match the input schema: {problem}. {HOW_TO_CORRECT}")
            result = await work.pool.execute(executor, inputs, work.context)
        return await _completed(result, task, work)
    except ExecutorError as error:
        return failed(
            str(error),
            may_retry=not error.permanent,
            retry_after_seconds=error.retry_after_seconds,
            raised=error.raised if isinstance(error, StepRaised) else None,
        )
    except Parked as parked:
        if parked.wait.kind == "limit":
            raise  # the time of the attempt does not pass meanwhile
        if problem := _fault_of(parked):
            return failed(f"The question was not asked, because {problem}")
        _cap(parked, deadline)
        raise
    except NotStored as error:
        raise error.__cause__ or error from None
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        return crashed(executor, error)
    except (TimeoutError, Stopped) as error:
        expired_seconds = timeout_seconds if deadline.expired() else None
        return _stopped_outcome(error, executor, why_cancelled=why_cancelled(), expired_seconds=expired_seconds)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a plug-in may raise anything; the run continues without it)
        return crashed(executor, error)


async def _completed(result: Any, task: LoadedTask, work: Work) -> Outcome:
    """Raise ExecutorError if the result, or what it spawns, cannot be stored."""
    spawn = None if work.is_demo else spawn_in(result, task.params)
    is_composed = len(work.context.dependency_results) > 1
    kept = spawn.result if spawn else result
    most = work.max_bytes if spawn is None else _max_bytes()
    outcome = await completed_in_turn(kept, max_bytes=most, is_composed=is_composed)
    if spawn is None:
        return outcome
    tasks = orjson.loads(stored_form(list(spawn.tasks), max_bytes=_max_bytes()))
    return replace(outcome, spawn=replace(spawn, tasks=tasks, memo=_stored_memo(spawn.memo)))


def _stored_memo(memo: Any) -> Any:
    """Raise ExecutorError if the memo cannot be stored."""
    try:
        return orjson.loads(stored_form(memo, max_bytes=_max_bytes()))
    except ExecutorError as error:
        raise ExecutorError(f"The memo of this step cannot be stored. {error}", permanent=True) from None


async def call_off(executor: Executor, inputs: Json, context: Context, *, memo: Any) -> Stopped | None:
    """Let the executor cancel remote work behind a question that will not be answered.

    None: no result.

    Raises asyncio.CancelledError if it is itself cancelled, and nothing else.
    """
    try:
        async with asyncio.timeout(STOP_SECONDS):
            result = await executor.call_off(inputs, context, memo=memo)
            return None if result is None else Stopped(result=result)
    except ExecutorError as error:
        trouble = str(error)
    except TimeoutError:
        trouble = f"no response within {STOP_SECONDS:g} s"
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a plug-in may raise anything; the run continues without it)
        trouble = str(crashed(executor, error).error)
    context.log(f"Could not cancel the remote work of this task, which may still be running: {trouble}")
    return None


def _fault_of(parked: Parked) -> str | None:
    if parked.schema is not None and (problem := fault_of_form(parked.schema)):
        return f"its schema {problem}"
    later = parked.escalation.assignees if parked.escalation else None
    return next((why for names in (parked.assignees, later) if names is not None and (why := _fault_in(names))), None)


def _fault_in(names: Sequence[str]) -> str | None:
    assignees = {"assignees": list(names)}
    if problem := mismatch({"properties": {"assignees": SCHEMA}}, assignees) or fault_of_assignees(names):
        return f"its list of assignees does not fit: {problem}"
    return None


def _cap(parked: Parked, deadline: asyncio.Timeout) -> None:
    """Let the wait end with the task's timeout, and the task fail, if that comes first."""
    when = deadline.when()
    if when is None:
        return
    left = max(0.0, when - asyncio.get_running_loop().time())
    planned, until = parked.expires_after_seconds, parked.wait.expires_at
    if until is not None:
        planned = (until - datetime.now(UTC)).total_seconds()
    if planned is None or left < planned:
        parked.expires_after_seconds = left
        parked.wait = replace(parked.wait, expires_at=None, on_expiry="fail")


def crashed(executor: Executor, error: BaseException) -> Outcome:
    """Return a failure.

    An unknown exception's text may contain a secret: only the log has it, under an error id.
    """
    error_id = uuid.uuid4().hex[:12]
    kind = error.kind if isinstance(error, RaisedElsewhere) else type(error).__name__
    logger.error(
        "Executor %s raised (error id %s)", executor.id, error_id, exc_info=error, extra={"event": "executor.raised"}
    )
    text = f"Executor '{executor.id}' raised {kind}. The worker's log has the details under error id {error_id}."
    return failed(text, may_retry=True)


def _stopped_outcome(
    error: TimeoutError | Stopped, executor: Executor, *, why_cancelled: str | None, expired_seconds: float | None
) -> Outcome:
    """Return the outcome of an attempt stopped by a request, its timeout or the executor itself.

    Raises asyncio.CancelledError if the worker stops.
    """
    if why_cancelled is not None and isinstance(error, Stopped):
        return cancelled(why_cancelled, stopped=error, max_bytes=_max_bytes())
    if expired_seconds is not None:
        return failed(f"Timed out after {expired_seconds} s (params.timeout_seconds).", may_retry=True)
    if isinstance(error, Stopped) and _is_cancelled():
        raise asyncio.CancelledError from error
    return crashed(executor, error)


def _is_cancelled() -> bool:
    """Return whether the current task was cancelled.

    An executor may also stop by itself, and then it has failed.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _max_bytes() -> int:
    limit: int = settings.APFLOW.limits.result_bytes
    return limit
