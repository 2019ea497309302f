"""The model calls of runs. Each function returns only those of runs that its caller may see."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db.models import QuerySet, Sum

from accounts.callers import Caller
from tasks.models import ModelCall, Run
from tasks.rules.exceptions import RunNotFound
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import COUNTED, dollars
from tasks.services.trees.queries import after_cursor, cursor_at
from tasks.storage import loads

LISTED: Final = 100
"""The number of calls that the details of a run or a task name."""
Key = tuple[str, str]


def list_calls(
    *, caller: Caller, run_id: str, task_id: str | None = None, limit: int = 20, cursor: str = ""
) -> tuple[list[ModelCall], str | None]:
    """Return a page of the calls of a run, or of one of its tasks, the oldest first, and the cursor of the next page.

    A page ends early when the response is full. Raises RunNotFound, InvalidParams for an invalid cursor, or
    ResponseTooLarge.
    """
    if not Run.objects.for_caller(caller).filter(id=run_id).exists():
        raise RunNotFound(run_id)
    found = _calls(run_id, task_id)
    if cursor:
        found = found.filter(after_cursor(cursor, descending=False, column="started_at"))
    sizes = dict(found.values_list("id", loads.size_of("content", "error"))[: limit + 1])
    ids = loads.spend_on_page(dict(list(sizes.items())[:limit]), least=1 if sizes else 0)
    page = sorted(ModelCall.objects.filter(id__in=ids), key=lambda call: (call.started_at, call.id))
    return page, cursor_at(page[-1].started_at, page[-1].id) if len(ids) < len(sizes) else None


def first_calls(*, run_id: str | None, task_id: str | None = None) -> list[ModelCall]:
    """Return the first LISTED calls of a run that the caller may see, without what was said."""
    return [] if run_id is None else list(_calls(run_id, task_id).defer("content")[:LISTED])


def _calls(run_id: str, task_id: str | None) -> "QuerySet[ModelCall]":
    found = ModelCall.objects.filter(run_id=run_id)
    return (found if task_id is None else found.filter(task_id=task_id)).order_by("started_at", "id")


def usage_of_tasks(run_ids: Iterable[str]) -> Mapping[Key, Json]:
    """Map (run id, task id) to what the calls of the task used in that run, in the form of `token_usage`."""
    sums = {name: Sum(name) for name in COUNTED} | {"nanos": Sum("cost_nanos")}
    calls = ModelCall.objects.filter(run_id__in=run_ids).order_by()
    of_tasks: Iterable[Any] = calls.values("run_id", "task_id").annotate(**sums)
    return {
        (row["run_id"], row["task_id"]): {name: int(row[name] or 0) for name in COUNTED}
        | {"cost_usd": None if row["nanos"] is None else dollars(int(row["nanos"]))}
        for row in of_tasks
    }
