"""Log lines about runs: queued, started, resumed, ended, and the failures and retries of their tasks.

`log.runs` is the percentage of runs that have them. A line contains ids and numbers, never inputs, results or errors,
which are texts of users. Ids that clients choose are quoted, so that none of them can forge a line.
"""

import logging
from typing import Any, Final
from zlib import crc32

from django.conf import settings

from tasks.telemetry.tracing import log_ids

log = logging.getLogger("runs")

ALL: Final = 100


def is_logged(run_id: str) -> bool:
    """Return whether the run is one of the `log.runs` percent: the same answer in every process."""
    percent = settings.APFLOW.log.runs
    return percent >= ALL or (percent > 0 and crc32(run_id.encode()) % ALL < percent)


def queued(*, run_id: str, root_id: str, user_id: str) -> None:
    """Log that a request has queued a run: the line has the ids of both.

    Without a request, as for the examples of the first start, the run has its other lines only.
    """
    if "request" not in log_ids():
        return
    _write(
        run_id,
        "Run %s is queued: tree %r of %r",
        run_id,
        root_id,
        user_id,
        event="run.queued",
        user=user_id,
        root=root_id,
    )


def started(*, run_id: str, root_id: str, user_id: str, task_count: int, seconds_queued: float) -> None:
    _write(
        run_id,
        "Run started: tree %r of %r, %s, queued for %.3f s",
        root_id,
        user_id,
        _count(task_count),
        seconds_queued,
        event="run.started",
        user=user_id,
        root=root_id,
        seconds=round(seconds_queued, 6),
    )


def resumed(*, run_id: str, root_id: str, user_id: str, task_count: int) -> None:
    """Log that a run goes on after a wait, or after it left another worker."""
    _write(
        run_id,
        "Run resumed: tree %r of %r, %s",
        root_id,
        user_id,
        _count(task_count),
        event="run.resumed",
        user=user_id,
        root=root_id,
    )


def _count(tasks: int) -> str:
    return f"{tasks:,} task{'' if tasks == 1 else 's'}"


def ended(*, run_id: str, root_id: str, user_id: str, status: str, seconds: float) -> None:
    """Log how a run has left this worker: with its final status, or `waiting` or `released`."""
    _write(
        run_id,
        "Run %s after %.3f s: tree %r of %r",
        status,
        seconds,
        root_id,
        user_id,
        event="run.ended",
        user=user_id,
        root=root_id,
        status=status,
        seconds=round(seconds, 6),
    )


def task_failed(*, run_id: str, task: Any, seconds: float | None, will_retry: bool) -> None:
    """Log a failed attempt at a task. `task` is a LoadedTask; `seconds` is None if it has not begun."""
    _write(
        run_id,
        "Task %r of %r failed%s: executor %s, attempt %s%s",
        task.id,
        task.user_id,
        ", and will be retried" if will_retry else "",
        task.executor_id or "group",
        task.attempt,
        "" if seconds is None else f", {seconds:.3f} s",
        event="task.retried" if will_retry else "task.failed",
        user=task.user_id,
        task=task.id,
        executor=task.executor_id,
        attempt=task.attempt,
        seconds=None if seconds is None else round(seconds, 6),
    )


def _write(run_id: str, message: str, *values: object, **facts: object) -> None:
    if log.isEnabledFor(logging.INFO) and is_logged(run_id):
        log.info(message, *values, extra={**facts, "run": run_id})
