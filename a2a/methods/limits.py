"""Methods for named limits and pauses: what waits for which, and changes while workers run."""

from a2a.core.mapping import native_time
from a2a.core.parsing import Params, Text
from a2a.methods.method import ADMIN, OPERATOR, VIEWER, Response, Rest, Tool, method
from a2a.methods.params import FlowName
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.executors import get_executor
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.waits import named_limits
from tasks.services.waits.named_limits import LimitInUse


class ListLimits(Params, frozen=True, kw_only=True):
    """limits.list"""

    user_id: Text | None = None
    """Only the limits that this user has set, for administrators. Default: those of all users, and the caller's own."""


class OneLimit(Params, frozen=True, kw_only=True):
    """The limit that a method is about."""

    name: Text
    user_id: Text | None = None
    """The user for whose tasks alone it is. Default: the caller, for administrators all users."""


class SetLimit(OneLimit, frozen=True, kw_only=True):
    """limits.set"""

    limit: Json
    """As in `limits.shared`, such as `{"match": {"host": "crm.example.com"}, "requests_per_second": 10}`."""


class PausedFlow(Params, frozen=True, kw_only=True):
    """flows.pause and flows.resume"""

    name: FlowName
    user_id: Text | None = None
    """The owner; only administrators pause flows of others."""


class PausedExecutor(Params, frozen=True, kw_only=True):
    """executors.pause and executors.resume"""

    executor_id: Text


class PausedProvider(Params, frozen=True, kw_only=True):
    """providers.pause and providers.resume"""

    provider: Text


class PausedUser(Params, frozen=True, kw_only=True):
    """users.pause and users.resume"""

    user_id: Text


class NamedLimit(Response, frozen=True, kw_only=True):
    """A named limit: `limit`, as it is configured or was set (`is_set`), and the caller's tasks that wait for it, for administrators those of all users.

    `since` is when the first of them began to wait. `at_work` counts the places that are taken; null without `at_once`. With `user_id`,
    it is for the tasks of this user alone, who has set it.
    """

    name: str
    user_id: str | None
    limit: Json
    is_set: bool
    set_by: str | None
    set_at: str | None
    waiting: int
    since: str | None
    at_work: int | None


class Pause(Response, frozen=True, kw_only=True):
    """The pause of a flow (`user_id` is its owner), an executor, a provider or a user, and the caller's tasks that wait for its end."""

    kind: str
    name: str
    user_id: str | None
    is_paused: bool
    paused_by: str | None
    paused_at: str | None
    waiting: int
    since: str | None


class NamedLimits(Response, frozen=True, kw_only=True):
    """All named limits, and what is paused."""

    limits: list[NamedLimit]
    pauses: list[Pause]


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
def list_limits(caller: Caller, given: ListLimits) -> DataResult:
    """List the named limits and what is paused, and how many tasks wait for each since when."""
    limits = named_limits.list_limits(caller, user_id=given.user_id)
    pauses = named_limits.list_pauses(caller, user_id=given.user_id)
    native = {
        "limits": [_native(each, caller) for each in limits],
        "pauses": [_pause(each, caller) for each in pauses],
    }
    return DataResult(native=native)


@method(
    "limits.get",
    role=VIEWER,
    answer=LimitDetail,
    rest=[Rest("getLimit", "GET limits/<name>/", errors=(errors.LimitNotFound,))],
)
def get_limit(caller: Caller, given: OneLimit) -> DataResult:
    """Return a named limit, and the tasks that wait for it."""
    found, waits = named_limits.get_limit(caller, name=given.name, user_id=given.user_id)
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
    role=OPERATOR,
    answer=NamedLimit,
    rest=[Rest("setLimit", "PUT limits/<name>/", rules={"required": ["limit"]})],
)
async def set_limit(caller: Caller, given: SetLimit) -> DataResult:
    """Set a named limit, or replace one: administrators for all users, others for their own tasks. Workers apply it within seconds."""
    stored = await pools.write(
        named_limits.set_limit, caller, name=given.name, given=given.limit, user_id=given.user_id
    )
    return DataResult(native=_native(stored, caller))


@method(
    "limits.delete",
    role=OPERATOR,
    answer=LimitDeleted,
    rest=[Rest("deleteLimit", "DELETE limits/<name>/")],
)
async def delete_limit(caller: Caller, given: OneLimit) -> DataResult:
    """Delete a limit that was set. Tasks that wait for it start, unless the configuration has one of this name."""
    deleted = await pools.write(named_limits.delete_limit, caller, name=given.name, user_id=given.user_id)
    return DataResult(native={"name": given.name, "deleted": deleted})


async def _flow(caller: Caller, given: PausedFlow) -> tuple[str, str]:
    found = await pools.read(flows.get_flow, caller=caller, name=given.name, user_id=given.user_id)
    return found.name, found.user_id


async def _paused(caller: Caller, kind: str, name: str, *, owner: str = "") -> DataResult:
    found = await pools.write(named_limits.pause, caller, kind, name, owner=owner)
    return DataResult(native=_pause(found, caller))


async def _resumed(caller: Caller, kind: str, name: str, *, owner: str = "") -> DataResult:
    await pools.write(named_limits.resume, caller, kind, name, owner=owner)
    nothing = {"is_paused": False, "paused_by": None, "paused_at": None, "waiting": 0, "since": None}
    return DataResult(native={"kind": kind, "name": name, "user_id": owner or None} | nothing)


@method(
    "flows.pause",
    role=OPERATOR,
    answer=Pause,
    rest=[Rest("pauseFlow", "POST flows/<name>/pause/", errors=(errors.FlowNotFound,))],
    tool=Tool(
        "pause_flow",
        "Pause a flow",
        "Let no task of a flow start until it is resumed. Tasks at work continue, and the others wait visibly.",
        is_idempotent=True,
    ),
)
async def pause_flow(caller: Caller, given: PausedFlow) -> DataResult:
    """Let no task of a flow start until it is resumed. Tasks at work continue, and the others wait visibly."""
    name, owner = await _flow(caller, given)
    return await _paused(caller, "flow", name, owner=owner)


@method(
    "flows.resume",
    role=OPERATOR,
    answer=Pause,
    rest=[Rest("resumeFlow", "POST flows/<name>/resume/", errors=(errors.FlowNotFound,))],
    tool=Tool(
        "resume_flow",
        "Resume a flow",
        "Let the tasks of a flow start that waited, in their order.",
        is_idempotent=True,
    ),
)
async def resume_flow(caller: Caller, given: PausedFlow) -> DataResult:
    """Let the tasks of a flow start that waited, in their order."""
    name, owner = await _flow(caller, given)
    return await _resumed(caller, "flow", name, owner=owner)


@method(
    "executors.pause",
    role=ADMIN,
    answer=Pause,
    rest=[Rest("pauseExecutor", "POST executors/<executor_id>/pause/", errors=(errors.ExecutorNotFound,))],
    tool=Tool(
        "pause_executor",
        "Pause an executor",
        "Let no task of an executor start until it is resumed. Tasks at work continue, and the others wait visibly.",
        is_idempotent=True,
    ),
)
async def pause_executor(caller: Caller, given: PausedExecutor) -> DataResult:
    """Let no task of an executor start until it is resumed. Tasks at work continue, and the others wait visibly."""
    return await _paused(caller, "executor", get_executor(given.executor_id).id)


@method(
    "executors.resume",
    role=ADMIN,
    answer=Pause,
    rest=[Rest("resumeExecutor", "POST executors/<executor_id>/resume/", errors=(errors.ExecutorNotFound,))],
    tool=Tool(
        "resume_executor",
        "Resume an executor",
        "Let the tasks of an executor start that waited, in their order.",
        is_idempotent=True,
    ),
)
async def resume_executor(caller: Caller, given: PausedExecutor) -> DataResult:
    """Let the tasks of an executor start that waited, in their order."""
    return await _resumed(caller, "executor", get_executor(given.executor_id).id)


@method(
    "providers.pause",
    role=ADMIN,
    answer=Pause,
    rest=[Rest("pauseProvider", "POST providers/<provider>/pause/")],
    tool=Tool(
        "pause_provider",
        "Pause a provider",
        "Let no task that calls models of a provider start until it is resumed. Tasks at work continue, and the others wait visibly.",
        is_idempotent=True,
    ),
)
async def pause_provider(caller: Caller, given: PausedProvider) -> DataResult:
    """Let no task that calls models of a provider start until it is resumed. Tasks at work continue, and the others wait visibly."""
    return await _paused(caller, "provider", named_limits.known_provider(given.provider, "provider"))


@method(
    "providers.resume",
    role=ADMIN,
    answer=Pause,
    rest=[Rest("resumeProvider", "POST providers/<provider>/resume/")],
    tool=Tool(
        "resume_provider",
        "Resume a provider",
        "Let the tasks that call models of a provider start that waited, in their order.",
        is_idempotent=True,
    ),
)
async def resume_provider(caller: Caller, given: PausedProvider) -> DataResult:
    """Let the tasks that call models of a provider start that waited, in their order."""
    return await _resumed(caller, "provider", named_limits.known_provider(given.provider, "provider"))


@method(
    "users.pause",
    role=ADMIN,
    answer=Pause,
    rest=[Rest("pauseUser", "POST users/<user_id>/pause/")],
    tool=Tool(
        "pause_user",
        "Pause a user",
        "Let no task of a user start until it is resumed. Tasks at work continue, and the others wait visibly.",
        is_idempotent=True,
    ),
)
async def pause_user(caller: Caller, given: PausedUser) -> DataResult:
    """Let no task of a user start until it is resumed. Tasks at work continue, and the others wait visibly."""
    return await _paused(caller, "user", given.user_id)


@method(
    "users.resume",
    role=ADMIN,
    answer=Pause,
    rest=[Rest("resumeUser", "POST users/<user_id>/resume/")],
    tool=Tool(
        "resume_user",
        "Resume a user",
        "Let the tasks of a user start that waited, in their order.",
        is_idempotent=True,
    ),
)
async def resume_user(caller: Caller, given: PausedUser) -> DataResult:
    """Let the tasks of a user start that waited, in their order."""
    return await _resumed(caller, "user", given.user_id)


def _native(found: LimitInUse, caller: Caller) -> Json:
    stored = found.stored
    return {
        "name": found.name,
        "user_id": found.limit.owner or None,
        "limit": found.given,
        "is_set": stored is not None,
        "set_by": stored.set_by if stored and (caller.sees_all or found.limit.owner) else None,
        "set_at": native_time(stored.set_at) if stored else None,
        "waiting": found.waiting,
        "since": native_time(found.since),
        "at_work": found.at_work,
    }


def _pause(found: LimitInUse, caller: Caller) -> Json:
    stored, limit = found.stored, found.limit
    assert stored is not None and limit.pause is not None  # noqa: S101  (a pause is always stored)
    return {
        "kind": limit.pause.kind,
        "name": limit.name,
        "user_id": limit.owner or None,
        "is_paused": True,
        "paused_by": found.paused_by(caller),
        "paused_at": native_time(stored.set_at),
        "waiting": found.waiting,
        "since": native_time(found.since),
    }
