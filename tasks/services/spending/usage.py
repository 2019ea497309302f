"""The model calls of runs, and their usage: sums by day, model, executor, flow and user. Each function returns only what its caller may see."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import F, QuerySet, Sum

from accounts.callers import Caller
from tasks.models import ModelCall, Run, Usage
from tasks.rules.exceptions import CallNotFound, InvalidParams, RunNotFound
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import COUNTED, dollars
from tasks.services.spending.budgets import Limit, day_limits
from tasks.services.trees.queries import after_cursor, cursor_at
from tasks.storage import loads

#: By what the sums can be grouped, and the column.
GROUPS: Final[Mapping[str, str]] = {
    "day": "day",
    "model": "model",
    "executor": "executor_id",
    "flow": "flow",
    "user": "user_id",
}
SUMS: Final = ("calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost_nanos", "unpriced")
DEFAULT_DAYS: Final = 30
MOST_ROWS: Final = 5_000
OPINION: Final = ("thumb", "score", "note")
"""The parts of the feedback on a call."""
LISTED: Final = 100
"""The number of calls that the details of a run or a task name."""
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Usage from `since` to `until`, both included, in UTC. `rows` are grouped by `by`."""

    since: date
    until: date
    by: Sequence[str]
    rows: list[Json]
    total: Json
    today: list[Limit] = field(default_factory=list)
    """The limits of one user for today: of the one that was asked for, or else of the caller."""


def usage(
    *,
    caller: Caller,
    since: date | None = None,
    until: date | None = None,
    by: Sequence[str] = ("day",),
    model: str | None = None,
    executor: str | None = None,
    flow: str | None = None,
    user_id: str | None = None,
) -> Report:
    """Return what the caller's tasks used; for administrators, what the tasks of all users used.

    By default of the 30 days up to today. Raises InvalidParams if there are more than MOST_ROWS rows.
    """
    until = until or datetime.now(UTC).date()
    since = since or (until - timedelta(days=DEFAULT_DAYS - 1) if until.toordinal() >= DEFAULT_DAYS else date.min)
    wanted = {"model": model, "executor_id": executor, "flow": flow, "user_id": user_id}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    found = Usage.objects.for_caller(caller).filter(day__gte=since, day__lte=until, **chosen).order_by()
    columns = [GROUPS[name] for name in by]
    sums = {f"sum_{name}": Sum(name) for name in SUMS}
    rows = list(found.values(*columns).annotate(**sums).order_by(*columns)[: MOST_ROWS + 1]) if by else []
    if len(rows) > MOST_ROWS:
        raise InvalidParams([("by", f"gives more than {MOST_ROWS:,} rows; ask for fewer days, or group by less")])
    named = [{name: _shown(row[GROUPS[name]]) for name in by} | _sums(row) for row in rows]
    total = _sums(found.aggregate(**sums))
    owner = user_id if user_id is not None and caller.sees_all else caller.user_id
    return Report(since=since, until=until, by=by, rows=named, total=total, today=day_limits(owner))


def _shown(value: Any) -> str | None:
    """Return a day as text, and None for a model without a name and for runs of no flow."""
    return value.isoformat() if isinstance(value, date) else value or None


def _sums(row: Mapping[str, Any]) -> Json:
    """Return the sums of a row. `cost_usd` is None if no cost is known."""
    numbers = {name: int(row[f"sum_{name}"] or 0) for name in SUMS}
    nanos, unpriced = numbers.pop("cost_nanos"), numbers.pop("unpriced")
    is_known = numbers["calls"] > unpriced or not numbers["calls"]
    return numbers | {"cost_usd": dollars(nanos) if is_known else None, "unpriced_calls": unpriced}


def list_calls(
    *, caller: Caller, run_id: str, task_id: str | None = None, limit: int = 20, cursor: str = ""
) -> tuple[list[ModelCall], str | None]:
    """Return a page of the calls of a run, or of one of its tasks, the oldest first, and the cursor of the next page.

    A page ends early when the response is full. Raises RunNotFound, InvalidParams for an invalid cursor, or
    ResponseTooLarge.
    """
    own = Run.objects.for_caller(caller)
    if not own.filter(id=run_id).exists():
        raise RunNotFound(run_id, close_matches=own.exclude(root_id=F("id")).ids_like(run_id))
    found = _calls(run_id, task_id)
    if cursor:
        found = found.filter(after_cursor(cursor, descending=False, column="started_at"))
    sizes = dict(found.values_list("id", loads.size_of("content", "error"))[: limit + 1])
    ids = loads.spend_on_page(dict(list(sizes.items())[:limit]), least=1 if sizes else 0)
    page = sorted(ModelCall.objects.filter(id__in=ids), key=lambda call: (call.started_at, call.id))
    return page, cursor_at(page[-1].started_at, page[-1].id) if len(ids) < len(sizes) else None


def get_call(*, caller: Caller, call_id: str) -> ModelCall:
    """Return a call of a run that the caller may see, with what was said. Raises CallNotFound or ResponseTooLarge."""
    found = _own_calls(caller).filter(id=call_id)
    loads.spend_on(found, "content", "error")
    if (call := found.first()) is None:
        raise CallNotFound(call_id)
    return call


@transaction.atomic
def set_feedback(*, caller: Caller, call_id: str, **opinion: Any) -> ModelCall:
    """Change these parts of the feedback on a call; None removes one, and the feedback with the last one. Raises CallNotFound."""
    call = _own_calls(caller).select_for_update().defer("content").filter(id=call_id).first()
    if call is None:
        raise CallNotFound(call_id)
    merged = {name: (call.feedback or {}).get(name) for name in OPINION} | opinion
    is_given = any(value is not None for value in merged.values())
    call.feedback = merged | {"by": caller.user_id, "at": datetime.now(UTC).isoformat()} if is_given else None
    ModelCall.objects.filter(id=call.id).update(feedback=call.feedback)
    return call


def _own_calls(caller: Caller) -> "QuerySet[ModelCall]":
    return ModelCall.objects.filter(run_id__in=Run.objects.for_caller(caller).values("id"))


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
