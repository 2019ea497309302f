"""Trees for the tests of the services: made by the services, brought to any state by the database."""

from datetime import UTC, datetime
from typing import Any

from accounts.callers import Caller, Role
from tasks.models import Run, Task
from tasks.services.trees import create_tree, execute_task
from tasks.status import Status

Json = dict[str, Any]
ALICE = Caller(user_id="alice")
BOB = Caller(user_id="bob")
ADMIN = Caller(user_id="root", role=Role.ADMIN)


def step(task_id: str, *needs: Any, parent: str | None = "root", **fields: Any) -> Json:
    """A task that runs `echo_executor`."""
    return {"id": task_id, "name": "echo_executor", "parent_id": parent, "dependencies": [*needs], **fields}


def group(task_id: str, *needs: Any, parent: str | None = "root") -> Json:
    return step(task_id, *needs, parent=parent, name=f"group {task_id}")


ROOT = group("root", parent=None)


def store(*tasks: Json, caller: Caller = ALICE) -> None:
    create_tree(caller=caller, tasks=list(tasks), id_conflict="error")


def ends(status: Status, *task_ids: str, result: Any = None) -> None:
    """As a run leaves the tasks."""
    now = datetime.now(UTC)
    progress = 1.0 if status is Status.COMPLETED else 0.0
    found = Task.objects.filter(id__in=task_ids)
    found.update(status=status, result=result, progress=progress, started_at=now, completed_at=now)


def start(task_id: str = "root", caller: Caller = ALICE) -> Run:
    """A run that no worker takes."""
    return execute_task(caller=caller, task_id=task_id).run


def finish(run: Run) -> None:
    Run.objects.filter(id=run.id).update(status=Status.COMPLETED, finished_at=datetime.now(UTC))


def task(task_id: str) -> Task:
    return Task.objects.get(id=task_id)


def stored_ids() -> set[str]:
    return set(Task.objects.values_list("id", flat=True))
