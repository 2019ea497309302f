"""The grid of a flow: a row for each task of its definition, a column for each of its newest runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aipartnerupflow.growth import HANDLED
from tasks.models import Run, Task
from tasks.services.flows.flow_lists import seconds_of
from tasks.status import Status

ROWS: Final = 200
"""Tasks shown; a flow may have more."""
COLUMNS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A task in a run. `seconds` is None unless it has started and finished."""

    task_id: str
    status: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A run, oldest first. `height` is its duration in percent of the longest; None without a duration.

    `cost_usd` is what its model calls cost, and `cost_height` that in percent of the most expensive run.
    """

    run: Run
    seconds: float | None
    height: float | None
    cost_usd: float | None
    cost_height: float | None
    has_tree: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A task by its id in the definition. A cell is None for a run of a version without the task."""

    label: str
    name: str
    cells: Sequence[Cell | None]

    @property
    def failures(self) -> int:
        """The number of runs that failed here."""
        return sum(cell is not None and cell.status == Status.FAILED for cell in self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """`more` is how many tasks of the newest version are not shown."""

    columns: Sequence[Column]
    lines: Sequence[Line]
    more: int

    @property
    def has_costs(self) -> bool:
        return any(column.cost_usd for column in self.columns)


def grid_of(runs: Sequence[Run], definition: Sequence[Mapping[str, str]]) -> Grid:
    """Return the grid of these runs, newest first, whose rows begin with the tasks of the newest version.

    Tasks that a run has added to its tree have no row.
    """
    newest = {run.root_id: run for run in reversed(runs)}  # of a tree that was run again, the latest run
    shown = list(newest.values())
    cells: defaultdict[str, dict[str, Cell]] = defaultdict(dict)
    names = {str(task["id"]): str(task["name"]) for task in definition}
    roots = set()
    of_runs = Task.objects.filter(root_id__in=[run.root_id for run in shown], part=None)
    tasks = of_runs.filter(position__lt=ROWS, spawned_by=None)
    columns = ("id", "root_id", "label", "name", "status", "cause_id", "started_at", "completed_at")
    for task in tasks.order_by("root_id", "position").only(*columns):
        label = task.label or task.id
        roots.add(task.root_id)
        names.setdefault(label, task.name)
        start, end = task.started_at, task.completed_at
        seconds = None if start is None or end is None else max(0.0, (end - start).total_seconds())
        cells[label][task.root_id] = Cell(
            task_id=task.id, status=_status_of(task, newest[task.root_id]), seconds=seconds
        )
    lines = [
        Line(label=label, name=names[label], cells=[cells[label].get(run.root_id) for run in shown])
        for label in [*names][:ROWS]
    ]
    durations = {run.id: seconds_of(run) for run in shown}
    costs: dict[str, float | None] = {run.id: (run.token_usage or {}).get("cost_usd") for run in shown}
    return Grid(
        columns=[
            Column(
                run=run,
                seconds=durations[run.id],
                height=_percent(durations[run.id], durations.values()),
                cost_usd=costs[run.id],
                cost_height=_percent(costs[run.id], costs.values()),
                has_tree=run.root_id in roots,
            )
            for run in shown
        ],
        lines=lines,
        more=max(0, len(names) - ROWS),
    )


def _status_of(task: Task, run: Run) -> str:
    """Return the status for people: a root has that of its run, and what failed in a completed run is handled."""
    if task.is_root:
        return run.status
    return HANDLED if task.status == Status.FAILED and run.status == Status.COMPLETED else task.shown_status


def _percent(value: float | None, values: Iterable[float | None]) -> float | None:
    """Return the share of the largest value in percent; None without a value, or if all are zero."""
    largest = max((each for each in values if each), default=None)
    return None if value is None or largest is None else max(4.0, round(100 * value / largest, 2))
