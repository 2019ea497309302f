"""The decisions of a schedule at its times: the runs that start, the times that are skipped with the reason, and the next time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Final

from tasks.rules.schedules import TICK, Timing

ON_TIME: Final = timedelta(seconds=60)
"""A time that is late by no more was not missed: a server restarts, or is busy for a moment."""


class Overlap(StrEnum):
    """The action at a time when an earlier run of the schedule has not ended."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_PREVIOUS = "cancel_previous"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """The missed times, at which no server was there, that are run."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class Outcome(StrEnum):
    """The outcome of a time."""

    STARTED = "started"
    QUEUED = "queued"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Times that are not run: the first of them, and the reason."""

    slot: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The next steps: run the slots in `due`, in their order, and look again at `following` (None: never)."""

    missed: Sequence[Missed]
    due: Sequence[datetime]
    following: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules by which a schedule makes up for missed times."""

    catch_up: CatchUp = CatchUp.NONE
    window: timedelta = timedelta(hours=1)

    @property
    def patience(self) -> timedelta:
        """The time that a run may start late."""
        return ON_TIME if self.catch_up is CatchUp.NONE else max(ON_TIME, self.window)


def plan(timing: Timing, policy: Policy, *, next_slot: datetime, now: datetime, most: int) -> Plan:
    """Decide about the slots from `next_slot` on that are due. `most`: of so many at once."""
    second = timing.next_slot(next_slot)
    if second is None or timing.due_at(second) > now:  # most of the time
        if timing.due_at(next_slot) < now - policy.patience:
            return Plan(missed=[Missed(slot=next_slot, reason=_too_late(policy))], due=[], following=second)
        return Plan(missed=[], due=[next_slot], following=second)
    if policy.catch_up is CatchUp.ALL:
        return _plan_all(timing, policy, next_slot=next_slot, now=now, most=most)
    # The last of several due slots runs, unless it is too late for that.
    last = timing.last_slot(now)
    if last is not None and timing.due_at(last) > now:  # jitter ends before the next slot: it is the one before
        last = timing.last_slot(last - TICK)
    last = last or next_slot
    if timing.due_at(last) < now - policy.patience:
        missed = [Missed(slot=next_slot, reason=f"{_too_late(policy)} So are all times up to {_iso(last)}.")]
        return Plan(missed=missed, due=[], following=timing.next_slot(last))
    why = f"Missed, as were all times before {_iso(last)}; catch_up is {policy.catch_up}."
    return Plan(missed=[Missed(slot=next_slot, reason=why)], due=[last], following=timing.next_slot(last))


def _plan_all(timing: Timing, policy: Policy, *, next_slot: datetime, now: datetime, most: int) -> Plan:
    """Plan those of several due slots that are not too late, the oldest first."""
    missed, first, horizon = [], next_slot, now - policy.patience
    if timing.due_at(next_slot) < horizon:
        missed = [Missed(slot=next_slot, reason=f"{_too_late(policy)} So are all times before {_iso(horizon)}.")]
        last = timing.last_slot(horizon)  # by its jitter, it may be due after the horizon
        is_late = last is None or timing.due_at(last) < horizon
        first = (timing.next_slot(last or horizon) if is_late else last) or now
    slots = [slot for slot in islice(timing.slots(first - TICK), most + 1) if timing.due_at(slot) <= now]
    due = slots[:most]
    following = slots[most] if len(slots) > most else timing.next_slot(due[-1] if due else first - TICK)
    return Plan(missed=missed, due=due, following=following)


def _too_late(policy: Policy) -> str:
    if policy.catch_up is CatchUp.NONE:
        return "Missed: no server was running, or the schedule could not be looked up; catch_up is none."
    return f"Missed by more than catch_up_window_seconds ({int(policy.window.total_seconds()):,})."


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def what_to_do(overlap: Overlap, *, is_running: bool, queued: int, most_queued: int) -> tuple[Outcome, str | None]:
    """Decide about a slot while earlier runs may not have ended: the outcome, and the reason of one that is skipped.

    With `cancel_previous` the earlier runs are to be cancelled.
    """
    if not (is_running or queued) or overlap in (Overlap.ALLOW, Overlap.CANCEL_PREVIOUS):
        return Outcome.STARTED, None
    if overlap is Overlap.SKIP:
        return Outcome.SKIPPED, "An earlier run has not ended; overlap is skip."
    if queued >= most_queued:
        return Outcome.SKIPPED, f"{queued:,} runs already wait for an earlier one (limits.catch_up_runs)."
    return Outcome.QUEUED, None
