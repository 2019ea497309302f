"""ListTasks: the caller's runs, the latest status change first (A2A 1.0, section 3.1.4)."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from django.db.models import Exists, F, OuterRef, Q, TextField, Value

from a2a.protocol.params import ListTasks, place_of, token_of
from a2a.protocol.queries import Artifacts, tasks_of
from a2a.protocol.serialize import STATES
from accounts.callers import Caller
from tasks.models import STATUS_AT, Question, Run, RunQuerySet
from tasks.rules.a2a_versions import AUTH_REQUIRED, INPUT_REQUIRED, REJECTED
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.trees.pending_runs import CREDENTIALS, HOLDERS, INPUT
from tasks.status import Status
from tasks.storage.bulk import db_time

RESERVED: Final = Q(root_id=F("id"))


def _with_tree(status: Status) -> Callable[[RunQuerySet], RunQuerySet]:
    return lambda runs: runs.filter(status=status).exclude(RESERVED)


def _asks() -> Exists:
    return Exists(Question.objects.waiting().filter(run=OuterRef("pk")))


FILTERS: Mapping[str, Callable[[RunQuerySet], RunQuerySet]] = MappingProxyType(
    {
        **{STATES[status]: _with_tree(status) for status in Status if status in STATES},
        STATES[Status.CANCELLED]: lambda runs: runs.filter(status=Status.CANCELLED),
        STATES[Status.IN_PROGRESS]: lambda runs: runs.filter(~_asks(), status=Status.IN_PROGRESS).exclude(RESERVED),
        INPUT_REQUIRED: lambda runs: runs.unfinished().filter(
            RESERVED & Q(lease_owner=HOLDERS[INPUT]) | Q(~RESERVED & _asks())
        ),
        AUTH_REQUIRED: lambda runs: runs.unfinished().filter(RESERVED, lease_owner=HOLDERS[CREDENTIALS]),
        REJECTED: lambda runs: runs.filter(RESERVED, status=Status.FAILED),
    }
)
"""State → filter for the runs in this state."""


def list_tasks(*, caller: Caller, given: ListTasks) -> Json:
    """Return a page of Tasks, which ends early if it would be too large. Raises InvalidParams or ResponseTooLarge."""
    found = _filtered(Run.objects.for_caller(caller), given)
    page_of = found.annotate(status_at=STATUS_AT)
    if given.page_token:
        page_of = page_of.filter(_beyond(given.page_token))
    page = list(page_of.order_by("-status_at", "-id")[: given.page_size + 1])
    artifacts = Artifacts.ALL if given.include_artifacts else Artifacts.NONE
    tasks = tasks_of(page[: given.page_size], artifacts=artifacts, history_length=given.history_length)
    return {
        "tasks": tasks,
        "nextPageToken": _token(page[len(tasks) - 1]) if len(tasks) < len(page) else "",
        "pageSize": given.page_size,
        "totalSize": found.count(),
    }


def _filtered(runs: RunQuerySet, given: ListTasks) -> RunQuerySet:
    if given.context_id:
        runs = runs.filter(context_id=given.context_id)
    if given.status and given.status != "TASK_STATE_UNSPECIFIED":
        runs = _state_filter(given.status)(runs)
    if given.status_timestamp_after:
        runs = runs.annotate(status_at=STATUS_AT).filter(
            status_at__gte=_as_stored(_moment(given.status_timestamp_after))
        )
    return runs


def _state_filter(state: str) -> Callable[[RunQuerySet], RunQuerySet]:
    """Return the filter for a state. Raises InvalidParams if A2A has no such state."""
    if state not in FILTERS:
        raise InvalidParams([("status", f"is not a state of A2A: expected one of {', '.join(sorted(FILTERS))}")])
    return FILTERS[state]


def _moment(text: str) -> datetime:
    """Parse a time in UTC. Raises InvalidParams."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.utcoffset() != timedelta(0):
        raise InvalidParams([("statusTimestampAfter", "must be a time in UTC, such as 2026-01-31T12:00:00Z")])
    return moment


def _as_stored(moment: datetime) -> Value:
    """Return the time with six fractional digits: SQLite compares text, and Django omits a zero fraction."""
    return Value(db_time(moment), output_field=TextField())


def _token(run: Run) -> str:
    return token_of(run.status_time, run.id)


def _beyond(token: str) -> Q:
    """Return the rows after the position in the token. Raises InvalidParams."""
    moment, run_id = place_of(token)
    at = _as_stored(moment)
    return Q(status_at__lte=at) & (Q(status_at__lt=at) | Q(id__lt=run_id))
