"""Runs as tasks of the extension `io.modelcontextprotocol/tasks`: handles that a client polls, answers and cancels."""

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from django.db.models import Count

from a2a.core.jsonrpc import INVALID_PARAMS
from a2a.mcp.eras import Exchange
from a2a.mcp.inputs import requests_of
from a2a.mcp.messages import missing_capability
from a2a.mcp.tools.outcomes import outcome_of
from accounts.callers import Caller
from tasks.models import Run, Task
from tasks.rules.exceptions import InvalidParams, ResponsesTooLarge, ResponseTooLarge, RunNotFound
from tasks.rules.strict_json import Json
from tasks.services import history
from tasks.services.waits import questions
from tasks.status import Status

EXTENSION: Final = "io.modelcontextprotocol/tasks"
POLL_MS: Final = 1_000
STATUSES: Final = MappingProxyType(
    {Status.COMPLETED: "completed", Status.FAILED: "completed", Status.CANCELLED: "cancelled"}
)
"""Status of a run that is over → status of its task. `failed` is for errors of the protocol: a run that failed has a result that says so."""


def require_extension(exchange: Exchange) -> None:
    """Raise McpError unless the client has declared the extension."""
    if not exchange.has_extension(EXTENSION):
        raise missing_capability(extensions={EXTENSION: {}})


def created(run: Run) -> Json:
    """Return a run that has just been committed."""
    return _handle(run, status="working", message="The run is queued.")


def detail(*, caller: Caller, run_id: Any) -> Json:
    """Return the run as it is: with its result if it is over, and with its questions if it waits for a person.

    Raises InvalidParams, also for a run of another owner, or ResponsesTooLarge.
    """
    run = known_run(caller, run_id)
    if run.finished_at is not None:
        has_tree = Task.objects.filter(parent_id=run.target_id).exists()
        try:
            result = outcome_of(caller=caller, run_id=run.id, with_tree=has_tree)
        except ResponsesTooLarge:  # a later request gets it
            raise
        except ResponseTooLarge as error:  # an error of the protocol: no reply may have that result
            fault = {"code": INVALID_PARAMS, "message": error.message}
            message = f"The run is {run.status}; its result is too large."
            return _handle(run, status="failed", message=message, error=fault)
        return _handle(run, status=STATUSES[Status(run.status)], message=f"The run is {run.status}.", result=result)
    asked = questions.open_questions(caller, run_ids=[run.id])
    tree = Task.objects.tree(run.root_id).order_by()
    counts = dict(tree.values_list("status").annotate(Count("id")))
    done = sum(count for status, count in counts.items() if Status(status).is_terminal)
    running = tree.filter(status=Status.IN_PROGRESS).order_by("position").values_list("name", flat=True).first()
    message = f"{done:,} of {sum(counts.values()):,} done" + (f": {running}" if running else "")  # "3 of 7 done: Mail"
    if asked:
        return _handle(run, status="input_required", message=message, inputRequests=requests_of(asked))
    return _handle(run, status="working", message=message)


def known_run(caller: Caller, run_id: Any) -> Run:
    """Raise InvalidParams: the extension has no other error for a task that is not there."""
    if not isinstance(run_id, str):
        raise InvalidParams([("taskId", "required, a string")])
    try:
        return history.own_run(caller=caller, run_id=run_id)
    except RunNotFound:
        raise InvalidParams([("taskId", "there is no such task; check that it belongs to you")]) from None


def _handle(run: Run, *, status: str, message: str, **more: Any) -> Json:
    return {
        "taskId": run.id,
        "status": status,
        "statusMessage": message,
        "createdAt": _time(run.created_at),
        "lastUpdatedAt": _time(run.status_time),
        "ttlMs": None,
        "pollIntervalMs": POLL_MS,
    } | more


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
