"""Methods for named limits: what waits for which, and changes while workers run."""

from typing import Annotated

from msgspec import Meta

from a2a.core.mapping import native_time
from a2a.core.parsing import Params
from a2a.methods.method import ADMIN, VIEWER, Response, Rest, Tool, method
from a2a.methods.params import Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules import exceptions as errors
from tasks.rules.limits import NAME
from tasks.rules.strict_json import Json
from tasks.services.waits import named_limits
from tasks.services.waits.named_limits import LimitInUse

LimitName = Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]


class OneLimit(Params, frozen=True, kw_only=True):
    """The limit that a method is about."""

    name: LimitName


class SetLimit(Params, frozen=True, kw_only=True):
    """limits.set"""

    name: LimitName
    limit: Json
    """As in `limits.shared`, such as `{"match": {"host": "crm.example.com"}, "requests_per_second": 10}`."""


class NamedLimit(Response, frozen=True, kw_only=True):
    """A named limit: `limit`, as it is configured or was set (`is_set`), and the caller's tasks that wait for it, for administrators those of all users.

    `since` is when the first of them began to wait. `at_work` counts the places that are taken; null without `at_once`.
    """

    name: str
    limit: Json
    is_set: bool
    set_by: str | None
    set_at: str | None
    waiting: int
    since: str | None
    at_work: int | None


class NamedLimits(Response, frozen=True, kw_only=True):
    """All named limits."""

    limits: list[NamedLimit]


class WaitingTask(Response, frozen=True, kw_only=True):
    """A task that waits for a limit. `text` says about how long, as when it began to wait."""

    task_id: str
    run_id: str
    user_id: str
    since: str
    text: str


class LimitDetail(NamedLimit, frozen=True, kw_only=True):
    """A named limit with the first 100 of the tasks that wait for it, the next to start first."""

    tasks: list[WaitingTask]


class LimitDeleted(Response, frozen=True, kw_only=True):
    """`deleted` is false if no limit of this name was set: one of the configuration cannot be deleted."""

    name: str
    deleted: bool


@method(
    "limits.list",
    role=VIEWER,
    answer=NamedLimits,
    rest=[Rest("listLimits", "GET limits/")],
    tool=Tool(
        "list_limits", "List limits", "List the named limits, and how many of your tasks wait for each since when."
    ),
)
def list_limits(caller: Caller, given: Nothing) -> DataResult:
    """List the named limits, and how many tasks wait for each since when."""
    return DataResult(native={"limits": [_native(each, caller) for each in named_limits.list_limits(caller)]})


@method(
    "limits.get",
    role=VIEWER,
    answer=LimitDetail,
    rest=[Rest("getLimit", "GET limits/<name>/", errors=(errors.LimitNotFound,))],
)
def get_limit(caller: Caller, given: OneLimit) -> DataResult:
    """Return a named limit, and the tasks that wait for it."""
    found, waits = named_limits.get_limit(caller, name=given.name)
    tasks = [
        {
            "task_id": wait.task_id,
            "run_id": wait.run_id,
            "user_id": wait.run.user_id,
            "since": native_time(wait.asked_at),
            "text": wait.text,
        }
        for wait in waits
    ]
    return DataResult(native=_native(found, caller) | {"tasks": tasks})


@method(
    "limits.set",
    role=ADMIN,
    answer=NamedLimit,
    rest=[Rest("setLimit", "PUT limits/<name>/", rules={"required": ["limit"]})],
)
async def set_limit(caller: Caller, given: SetLimit) -> DataResult:
    """Set a named limit, or replace one. Workers apply it within seconds, also to tasks that wait."""
    stored = await pools.write(named_limits.set_limit, caller, name=given.name, given=given.limit)
    return DataResult(native=_native(stored, caller))


@method(
    "limits.delete",
    role=ADMIN,
    answer=LimitDeleted,
    rest=[Rest("deleteLimit", "DELETE limits/<name>/")],
)
async def delete_limit(caller: Caller, given: OneLimit) -> DataResult:
    """Delete a limit that was set. Tasks that wait for it start, unless the configuration has one of this name."""
    deleted = await pools.write(named_limits.delete_limit, caller, name=given.name)
    return DataResult(native={"name": given.name, "deleted": deleted})


def _native(found: LimitInUse, caller: Caller) -> Json:
    stored = found.stored
    return {
        "name": found.name,
        "limit": found.given,
        "is_set": stored is not None,
        "set_by": stored.set_by if stored and caller.sees_all else None,
        "set_at": native_time(stored.set_at) if stored else None,
        "waiting": found.waiting,
        "since": native_time(found.since),
        "at_work": found.at_work,
    }
