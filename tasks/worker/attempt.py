"""One attempt at a task: its inputs checked, its executor run within its time, whatever happens made an outcome."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Parked, Stopped
from tasks.rules.schema import mismatch
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, cancelled, completed, failed

logger = logging.getLogger(__name__)
Json = dict[str, Any]
HOW_TO_CORRECT: Final = (
    "Copy the task (tasks.copy), correct the copy (tasks.update) and execute that, "
    "or send the tree again with corrected inputs."
)
STOP_SECONDS: Final = 2.0
"""So long a cancelled executor may take to stop; then the task is cancelled without it."""


async def attempt(
    task: LoadedTask, executor: Executor, inputs: Json, context: Context, *, why_cancelled: Callable[[], str | None]
) -> Outcome:
    """Execute once. `why_cancelled` says whether, and why, somebody wants this task stopped.

    Raises Parked when the executor does, asyncio.CancelledError when it is the worker that stops, and nothing else.
    """
    problem = mismatch(executor.input_schema, inputs) or mismatch(task.schemas.get("input_schema", {}), inputs)
    if problem:
        return failed(f"The inputs do not fit the input schema: {problem}. {HOW_TO_CORRECT}")
    timeout_seconds = task.params.get("timeout_seconds")
    deadline = asyncio.timeout(timeout_seconds)
    try:
        async with deadline:
            result = await executor.execute(inputs, context)
        return completed(result, max_bytes=_max_bytes())
    except ExecutorError as error:
        return failed(str(error), may_retry=not error.permanent, retry_after_seconds=error.retry_after_seconds)
    except Parked as parked:
        parked.expires_after_seconds = _earlier(parked.expires_after_seconds, deadline)
        raise
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        return _crashed(executor, error)
    except (TimeoutError, Stopped) as error:
        expired_seconds = timeout_seconds if deadline.expired() else None
        return _cut_short(error, executor, why_cancelled=why_cancelled(), expired_seconds=expired_seconds)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a plug-in may raise anything; the run goes on without it)
        return _crashed(executor, error)


async def call_off(executor: Executor, inputs: Json, context: Context, *, memo: Any) -> Stopped | None:
    """Stop what waits elsewhere with a question that nobody will answer. None: there is no result.

    Raises asyncio.CancelledError when it is itself cancelled, and nothing else.
    """
    try:
        async with asyncio.timeout(STOP_SECONDS):
            result = await executor.call_off(inputs, context, memo=memo)
            return None if result is None else Stopped(result=result)
    except ExecutorError as error:
        trouble = str(error)
    except TimeoutError:
        trouble = f"no response within {STOP_SECONDS:g} s"
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a plug-in may raise anything; the run goes on without it)
        trouble = str(_crashed(executor, error).error)
    context.log(f"Could not cancel the remote work of this task, which may still be running: {trouble}")
    return None


def _earlier(expires_after_seconds: float | None, deadline: asyncio.Timeout) -> float | None:
    """A question waits no longer than the time that is left to who asked it."""
    when = deadline.when()
    if when is None:
        return expires_after_seconds
    left = max(0.0, when - asyncio.get_running_loop().time())
    return left if expires_after_seconds is None else min(left, expires_after_seconds)


def _cut_short(
    error: TimeoutError | Stopped, executor: Executor, *, why_cancelled: str | None, expired_seconds: float | None
) -> Outcome:
    """Stopped by request, by its time, by the worker that stops (then it raises asyncio.CancelledError), or by itself."""
    if why_cancelled is not None and isinstance(error, Stopped):
        return cancelled(why_cancelled, stopped=error, max_bytes=_max_bytes())
    if expired_seconds is not None:
        return failed(f"Timed out after {expired_seconds} s (params.timeout_seconds).", may_retry=True)
    if isinstance(error, Stopped) and _is_cancelled():
        raise asyncio.CancelledError from error
    return _crashed(executor, error)


def _is_cancelled() -> bool:
    """Whether anybody asked for it: an executor may also stop uninvited, and then it has failed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _max_bytes() -> int:
    limit: int = settings.APFLOW.limits.result_bytes
    return limit


def _crashed(executor: Executor, error: BaseException) -> Outcome:
    """What an unknown exception says may hold a secret: it goes to the log, and the task names the entry."""
    error_id = uuid.uuid4().hex[:12]
    logger.error(
        "Executor %s raised (error id %s)", executor.id, error_id, exc_info=error, extra={"event": "executor.raised"}
    )
    text = f"Executor '{executor.id}' raised {type(error).__name__}. The worker's log has the details under error id {error_id}."
    return failed(text, may_retry=True)
