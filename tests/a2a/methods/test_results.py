from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.timezone import now

from a2a.methods.queries import ListTasks, list_tasks
from a2a.methods.results import TaskListResult, TaskResult, at_once
from accounts.callers import LOCAL
from apflow_site.db import pools
from tasks.models import Run, Task
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.history import run_search
from tasks.status import Status

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_task_that_was_deleted_while_it_was_listed_is_left_out() -> None:
    gone = Task(id="gone", root_id="gone", name="gone", user_id="local")
    assert await pools.read(TaskListResult(native=[], tasks=[gone]).as_a2a, LOCAL) == []


async def test_a_search_that_is_not_through_asks_for_a_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_search, "PIECE", 1)
    monkeypatch.setattr(run_search, "SECONDS", -1)
    for number in range(2):
        await pools.write(trees.execute_tree, caller=LOCAL, tasks={"name": f"tree {number}"})

    def page(**asked: Any) -> Any:
        return list_tasks(LOCAL, ListTasks.parse(asked)).native

    assert [task["name"] for task in await pools.read(page, text="tree", limit=1)] == ["tree 1"]
    with pytest.raises(InvalidParams, match="reads only a part of the runs: send ''"):
        await pools.read(page, text="tree 0")
    first = await pools.read(page, text="tree 0", cursor="")
    assert (first["tasks"], first["next_cursor"] is None) == ([], False)


def stored(status: Status) -> tuple[Task, Run]:
    """A tree of one task, and its run."""
    task = Task.objects.create(
        id="one",
        root_id="one",
        name="one",
        user_id="local",
        status=status,
        result={"said": "hello"},
        progress=1.0,
        position=0,
        created_at=now(),
        updated_at=now(),
    )
    run = Run.objects.create(
        root_id="one", target_id="one", user_id="local", context_id="one", status=status, created_at=now()
    )
    return task, run


@pytest.mark.parametrize("metadata", [{}, {"task": {"status": "pending", "events": []}}])
async def test_a_reply_shows_run_and_rows_as_they_are_by_now(metadata: dict[str, Any]) -> None:
    task, run = await pools.write(stored, Status.COMPLETED)
    task.status = run.status = Status.PENDING  # as the method read them, before a worker came
    result = TaskResult(native={}, task=task, run=run, metadata=metadata)
    shown = await pools.read(result.as_a2a, LOCAL)
    assert shown["id"] == run.id
    assert shown["status"]["state"] == "completed"
    told = shown["status"]["message"]["parts"][0]["data"]
    assert (told["status"], told["progress"]) == ("completed", 1.0)
    assert shown["metadata"]["task"]["status"] == "completed"
    assert shown["metadata"]["task"].keys() >= metadata.get("task", {}).keys()


def test_a_tree_is_read_again_until_its_run_stood_still_meanwhile() -> None:
    statuses: Iterator[Status] = iter([Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED, Status.COMPLETED])
    trees = iter([[Task(id=name)] for name in ("early", "later", "final")])
    run, [task] = at_once(lambda: Run(id="run", status=next(statuses)), lambda: next(trees))
    assert run is not None
    assert (run.status, task.id) == (Status.COMPLETED, "final")
