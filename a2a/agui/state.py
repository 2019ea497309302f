"""The state that a front end shows: the run and its tasks, and how events change it (JSON Patch).

It has no inputs and no results: a front end sends its state back with each request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from tasks.models import Run, Task
from tasks.rules.places import OPENING
from tasks.rules.strict_json import Json
from tasks.rules.templates import LITERAL
from tasks.rules.words import TOKEN
from tasks.services.secrets.write_only import for_pages
from tasks.status import Status
from tasks.storage import loads

COLUMNS: Final = ("id", "name", "parent_id", "executor_id", "spawned_by", "status", "progress", "error", "completed_at")
PYTHON: Final = "python_executor"
"""The executor of functions: the arguments are one of its inputs."""
APPROVAL: Final = "approval_executor"
"""The executor that asks a person whether a call may be made."""
ENDS: Final = frozenset({"task_completed", "task_failed", "task_cancelled", "task_skipped"})


class Shown(NamedTuple):
    """The facts that the events of a task need: its place in the state, its name and its executor."""

    number: int
    name: str
    executor_id: str | None
    spawned_by: str | None


@dataclass(slots=True, kw_only=True)
class Tree:
    """The tasks of a stream by id, in the order of the state."""

    run: Run
    tasks: dict[str, Shown] = field(default_factory=dict)
    _sent: dict[str, Any] = field(default_factory=dict)
    """The value at each path that an event has changed."""

    def add(self, rows: Sequence[Json]) -> list[Json]:
        """Take tasks that were added to the tree, and return the operations that show them."""
        for row in rows:
            self.tasks[row["id"]] = Shown(len(self.tasks), row["name"], row["executor_id"], row["spawned_by"])
        return [{"op": "add", "path": "/tasks/-", "value": row} for row in rows]

    def caller_of(self, task_id: str) -> str | None:
        """Return the agent whose model asked for this task, as the call of a tool; None if the task is none."""
        shown = self.tasks[task_id]
        agent = self.tasks.get(shown.spawned_by or "")
        is_call = agent is not None and is_spoken(agent.executor_id) and shown.executor_id != APPROVAL
        return shown.spawned_by if is_call else None

    def operations(self, event: Json) -> list[Json]:
        """Return the changes that an event makes in the state, without those that it has seen before."""
        is_end = event["type"] == "final"
        values: dict[str, Any] = {}
        if not is_end:
            place = f"/tasks/{self.tasks[event['task_id']].number}"
            values |= {f"{place}/status": event["status"], f"{place}/progress": event["progress"]}
            if event["type"] in ENDS:
                values[f"{place}/error"] = event["error"]
            elif event["message"] and event["type"] != TOKEN:
                values[f"{place}/message"] = event["message"]
        values["/run/status"] = event["status"] if is_end else Status.IN_PROGRESS
        values["/run/progress"] = event["tree_progress"]
        changes = {path: value for path, value in values.items() if self._sent.get(path, self) != value}
        self._sent |= changes
        return [{"op": "replace", "path": path, "value": value} for path, value in changes.items()]


def is_spoken(executor_id: str | None) -> bool:
    """Return whether the words of this executor's models are its answer, as it is written."""
    return executor_id == "llm_executor"


def read_rows(run: Run, *, skip: int = 0, from_start: bool = False) -> list[Json]:
    """Return the tasks of the run's tree without the first ones, as the state shows them.

    `from_start`: as they were before the run; its events follow. Raises ResponseTooLarge.
    """
    rows = Task.objects.tree(run.root_id)
    loads.spend_on(rows, "error")
    found = []
    for row in rows.values(*COLUMNS)[skip:]:
        task = {name: row[name] for name in COLUMNS[:-1]} | {"message": None}
        is_of_earlier_run = row["completed_at"] is not None and row["completed_at"] < run.created_at
        if from_start and not is_of_earlier_run:
            task |= {"status": Status.PENDING, "progress": 0.0, "error": None}
        found.append(task)
    return found


def snapshot(run: Run, rows: Sequence[Json], *, from_start: bool) -> Json:
    """Return the whole state."""
    progress = sum(row["progress"] for row in rows) / len(rows)
    status = Status.PENDING if from_start else run.status
    return {
        "run": {"run_id": run.id, "task_id": run.target_id, "status": status, "progress": progress},
        "tasks": list(rows),
    }


def arguments_of(task_id: str) -> str:
    """Return the arguments of a call as JSON, without what a page must not show."""
    task = Task.objects.only("id", "executor_id", "schemas", "inputs").get(id=task_id)
    inputs = for_pages(task, task.inputs)
    given = inputs["arguments"] if task.executor_id == PYTHON and "arguments" in inputs else inputs
    return orjson.dumps(given).decode().replace(LITERAL, OPENING)
