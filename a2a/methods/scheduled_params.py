"""The parameters of the methods for tasks with a schedule of their own."""

from types import MappingProxyType
from typing import Annotated

from msgspec import Meta

from a2a.core.parsing import Params, Text
from a2a.methods.params import MOST_NAMED, ScheduleType
from a2a.methods.schedule_params import Moment, Reason
from tasks.status import Status

Limit = Annotated[int, Meta(ge=1, le=MOST_NAMED)]
Address = Annotated[str, Meta(max_length=2_000, pattern="^https?://")]


class ListScheduled(Params, frozen=True, kw_only=True):
    """tasks.scheduled.list"""

    enabled_only: bool = True
    user_id: Text | None = None
    schedule_type: ScheduleType | None = None
    status: Status | None = None
    limit: Limit = 100
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class ListDue(Params, frozen=True, kw_only=True):
    """tasks.scheduled.due: by default up to now."""

    before: Moment | None = None
    user_id: Text | None = None
    limit: Limit = 100


class InitSchedule(Params, frozen=True, kw_only=True):
    """tasks.scheduled.init: the next time after `from_time`, which is now by default."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    from_time: Moment | None = None


class CompleteRun(Params, frozen=True, kw_only=True):
    """tasks.scheduled.complete: `error` is why the run failed. The result of a task is only set by its own run."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    success: bool = True
    error: Reason | None = None
    calculate_next_run: bool = True
    result: None = None


class ExportICal(Params, frozen=True, kw_only=True):
    """tasks.scheduled.export-ical: with `base_url` each event has the address of its task's page."""

    user_id: Text | None = None
    schedule_type: ScheduleType | None = None
    enabled_only: bool = True
    limit: Limit = 100
    calendar_name: Annotated[str, Meta(min_length=1, max_length=255)] = "APFlow Tasks"
    base_url: Address | None = None


class Trigger(Params, frozen=True, kw_only=True):
    """tasks.webhook.trigger: `signature` and `timestamp` are not needed, since the caller is known."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    signature: str | None = None
    timestamp: str | None = None
    async_execution: bool = True
