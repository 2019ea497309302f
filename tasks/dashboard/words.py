"""Format durations, statuses and task URLs for pages. Pure."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from aipartnerupflow.growth import ENDED, HANDLED, NOT_RUN
from tasks.status import Status

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
WORDS: Final = {"in_progress": "running", NOT_RUN: "not run", HANDLED: "failed, handled"}


def duration(seconds: float | None) -> str:
    """Format a duration: 40 ms, 3.2 s, 4 m 05 s, 2 h 10 m. Empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)} m {int(seconds % MINUTE):02d} s"
    if seconds < DAY:
        return f"{int(seconds // HOUR)} h {int(seconds % HOUR // MINUTE):02d} m"
    return f"{int(seconds // DAY)} d {int(seconds % DAY // HOUR)} h"


def word(status: str) -> str:
    """Return the display name of a status."""
    return WORDS.get(status, status)


def path_of(task_id: str) -> str:
    """Return the path of a task's page."""
    return f"/ui/tasks/{quote(task_id, safe='')}"


def summary(kind: str, *, done: int, count: int, most: int | None, is_over: bool) -> str:
    """Return how far a map, loop or spawner is: 7 of 10 items, round 3 of 20, 2 of 4 tasks. `graph.js` has the same."""
    if not count:
        return kind
    if kind == "loop":
        return f"{count:,} round{'' if count == 1 else 's'}" if is_over else f"round {count:,} of {most:,}"
    return f"{done:,} of {count:,} {'item' if kind == 'map' else 'task'}{'' if count == 1 else 's'}"


def counts(by_status: Mapping[str, int], *, noun: str = " task") -> str:
    """Return how many tasks are over, with failures: 3 of 7 tasks · 1 failed, or 1 completed · 1 failed · 5 not run. `tree.js` has the same."""
    total, done = sum(by_status.values()), sum(by_status.get(status, 0) for status in ENDED)
    bad = _named(by_status, Status.FAILED, NOT_RUN, Status.CANCELLED, HANDLED)
    if bad and done == total:
        return " · ".join([*_named(by_status, Status.COMPLETED), *bad, *_named(by_status, Status.SKIPPED)])
    named = f"{noun}{'' if total == 1 or not noun else 's'}"
    return " · ".join([f"{done:,} of {total:,}{named}", *bad])


def brief_counts(by_status: Mapping[str, int]) -> str:
    """Return the counts below a heading that names what is counted: 3 of 7 · 1 failed."""
    return counts(by_status, noun="")


def _named(by_status: Mapping[str, int], *statuses: str) -> list[str]:
    found = [(by_status.get(status, 0), status) for status in statuses]
    return [f"{count:,} {'handled' if status == HANDLED else word(status)}" for count, status in found if count]
