"""The parameters of the methods for schedules."""

from types import MappingProxyType
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from a2a.core.conditions import NotWith
from a2a.core.parsing import Params, Text
from a2a.methods.params import NewTasks, Tags
from tasks.rules.firings import CatchUp, Overlap
from tasks.services.schedules import FIELDS

MOST_SECONDS = 2**31 - 1
YEAR = 366 * 86_400
Moment = Annotated[str, Meta(min_length=1, max_length=64)]
"""ISO 8601. Without an offset it is a wall-clock time in the zone of the schedule."""
Cron = Annotated[str, Meta(min_length=1, max_length=255)]
Zone = Annotated[str, Meta(min_length=1, max_length=64)]
Every = Annotated[int, Meta(ge=1, le=MOST_SECONDS)]
Count = Annotated[int, Meta(ge=1, le=MOST_SECONDS)]
Window = Annotated[int, Meta(ge=0, le=YEAR)]
Jitter = Annotated[int, Meta(ge=0, le=86_400)]
Reason = Annotated[str, Meta(min_length=1, max_length=10_000)]
ONE_KIND = "choose one of cron, every_seconds and at"
ONE_TIMING = (
    NotWith("every_seconds", "cron", ONE_KIND),
    NotWith("at", "cron", ONE_KIND),
    NotWith("at", "every_seconds", ONE_KIND),
)
ONE_TREE = "choose one of tasks, task_id and flow"
ONE_SUBJECT = (
    NotWith("task_id", "tasks", ONE_TREE),
    NotWith("flow", "tasks", ONE_TREE),
    NotWith("flow", "task_id", ONE_TREE),
)
CLEARED = frozenset({"flow_version", "inputs", "tags", "starts_at", "ends_at", "max_runs", "pause_after_failures"})


class Changing(Params, frozen=True, kw_only=True):
    """The fields of a schedule that a request may set."""

    CONDITIONS = (*ONE_TIMING, *ONE_SUBJECT)
    name: Text | UnsetType = UNSET
    tasks: NewTasks | UnsetType = UNSET
    task_id: Text | UnsetType = UNSET
    flow: Text | UnsetType = UNSET
    flow_version: Count | UnsetType | None = UNSET
    """None: the one that is the newest at each time."""
    inputs: dict[str, Any] | UnsetType | None = UNSET
    """Values for `{{run.inputs.topic}}` in the tree, for each run."""
    tags: Tags | UnsetType | None = UNSET
    """The tags of each run."""
    cron: Cron | UnsetType = UNSET
    every_seconds: Every | UnsetType = UNSET
    at: Moment | UnsetType = UNSET
    timezone: Zone | UnsetType = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    max_runs: Count | UnsetType | None = UNSET
    overlap: Overlap | UnsetType = UNSET
    catch_up: CatchUp | UnsetType = UNSET
    catch_up_window_seconds: Window | UnsetType = UNSET
    jitter_seconds: Jitter | UnsetType = UNSET
    pause_after_failures: Count | UnsetType | None = UNSET

    @property
    def fields(self) -> dict[str, Any]:
        """Return the given fields by name."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not UNSET}


class CreateSchedule(Changing, frozen=True, kw_only=True):
    """schedules.create"""

    is_paused: bool = False
    user_id: Text | None = None
    """The owner; only administrators may name another user. Default: the owner of the tree, or the caller."""


class UpdateSchedule(Changing, frozen=True, kw_only=True):
    """schedules.update: the fields to change. Null clears those that may be absent."""

    ALIASES = MappingProxyType({"id": "schedule_id"})
    NULLABLE = CLEARED
    HINTS = MappingProxyType({"is_paused": "use schedules.pause or schedules.resume"})
    schedule_id: Text


class NamedSchedule(Params, frozen=True, kw_only=True):
    """schedules.get, schedules.delete, schedules.resume"""

    ALIASES = MappingProxyType({"id": "schedule_id"})
    schedule_id: Text


class PauseSchedule(NamedSchedule, frozen=True, kw_only=True):
    """schedules.pause"""

    reason: Reason | None = None


class ListSchedules(Params, frozen=True, kw_only=True):
    """schedules.list"""

    user_id: Text | None = None
    is_paused: bool | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class TriggerSchedule(NamedSchedule, frozen=True, kw_only=True):
    """schedules.trigger"""

    overlap: Overlap | None = None
    """Replaces that of the schedule for this run."""


class BackfillSchedule(NamedSchedule, frozen=True, kw_only=True):
    """schedules.backfill: the times from `since` to `until`, both included."""

    ALIASES = MappingProxyType({"id": "schedule_id", "from": "since", "to": "until"})

    since: Moment
    until: Moment
    overlap: Overlap = Overlap.QUEUE


class PreviewSchedule(Params, frozen=True, kw_only=True):
    """schedules.preview: of a stored schedule, or of these fields."""

    CONDITIONS = ONE_TIMING
    ALIASES = MappingProxyType({"id": "schedule_id"})
    schedule_id: Text | None = None
    cron: Cron | None = None
    every_seconds: Every | None = None
    at: Moment | None = None
    timezone: Zone | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    count: Annotated[int, Meta(ge=1, le=100)] = 5

    @property
    def fields(self) -> dict[str, Any]:
        names = ("cron", "every_seconds", "at", "timezone", "starts_at", "ends_at")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class ListFirings(NamedSchedule, frozen=True, kw_only=True):
    """schedules.runs"""

    before: Moment | None = None
    """Only times before this one."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
