"""Trees of other servers are stored as they are, if they are trees by our rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.callers import LOCAL
from tasks.models import Run, Task
from tasks.services.trees import create_tree, execute_task, imports
from tasks.services.trees.imports import Fate, ForeignTree, State, import_trees
from tasks.services.trees.persist import rows_of
from tasks.services.trees.queries import get_tree
from tasks.status import Status
from tests.workers import Json, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
THEN = datetime(2025, 11, 2, 3, 4, 5, 678901, tzinfo=UTC)


def state(status: Status, **fields: Any) -> State:
    given: Json = {"result": None, "error": None, "progress": 0.0, "created_at": THEN, "updated_at": THEN}
    given |= {"started_at": None, "completed_at": None, "has_copy": False, "original_task_id": None}
    return State(status=status, **(given | fields))


def tree(*tasks: Json, **statuses: Status) -> ForeignTree:
    """A tree; each task is named by its id, and completed unless `statuses` says otherwise."""
    states = {task["id"]: state(statuses.get(task["id"], Status.COMPLETED)) for task in tasks}
    return ForeignTree(tasks=[{"name": task["id"]} | task for task in tasks], states=states)


ROOT: Json = {"id": "root", "user_id": "alice"}


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        pytest.param(
            [{"id": "a", "parent_id": "root", "user_id": "bob"}], "A tree has one owner", marks=pytest.mark.both_engines
        ),
        ([{"id": "a", "parent_id": "root", "dependencies": ["b"]}], "dependency 'b' is neither"),
        ([{"id": "a", "parent_id": "root", "dependencies": ["a"]}], "depends on itself"),
        ([{"id": "a", "parent_id": "root", "priority": 7}], "tasks[1].priority"),
        ([{"id": "a", "parent_id": "root", "name": "x" * 256}], "tasks[1].name"),
        ([{"id": "a", "parent_id": "root", "inputs": [1]}], "tasks[1].inputs"),
        ([{"id": "a", "parent_id": "root", "dependencies": ["root"]}], "Circular dependency"),
    ],
)
def test_a_tree_that_breaks_a_rule_is_refused_and_the_others_are_stored(others: list[Json], reason: str) -> None:
    sound = ForeignTree(tasks=[{"id": "other", "name": "Other"}], states={"other": state(Status.PENDING)})
    refused, stored = import_trees(trees=[tree(ROOT, *others), sound])
    assert (refused.fate, stored.fate) == (Fate.REFUSED, Fate.IMPORTED)
    assert reason in refused.reason
    assert [task.id for task in Task.objects.all()] == ["other"]


def test_the_limits_of_trees_apply(settings: Any) -> None:
    children = [{"id": f"c{number}", "parent_id": "root"} for number in range(settings.APFLOW.limits.tasks_per_tree)]
    (outcome,) = import_trees(trees=[tree(ROOT, *children)])
    assert outcome.reason == "10,001 tasks are too many: a tree has at most 10,000."


@pytest.mark.parametrize(
    ("statuses", "run"),
    [
        ({}, "completed"),
        ({"a": Status.FAILED, "b": Status.CANCELLED}, "failed"),
        pytest.param({"b": Status.CANCELLED}, "cancelled", marks=pytest.mark.both_engines),
        pytest.param({"b": Status.PENDING, "a": Status.FAILED}, None, marks=pytest.mark.both_engines),
    ],
)
def test_the_run_of_a_tree_that_has_ended_has_its_status(statuses: dict[str, Status], run: str | None) -> None:
    import_trees(trees=[tree(ROOT, {"id": "a", "parent_id": "root"}, {"id": "b", "parent_id": "root"}, **statuses)])
    assert Run.objects.values_list("status", flat=True).first() == run


@pytest.mark.both_engines
def test_a_task_with_the_same_id_is_the_same_tree_only_if_its_name_and_time_are() -> None:
    first = tree(ROOT)
    renamed = ForeignTree(tasks=[ROOT | {"name": "Another"}], states=first.states)
    later = ForeignTree(
        tasks=first.tasks, states={"root": state(Status.COMPLETED, created_at=THEN + timedelta(microseconds=1))}
    )
    import_trees(trees=[first])
    assert [import_trees(trees=[each])[0].fate for each in (first, renamed, later)] == [
        Fate.PRESENT,
        Fate.REFUSED,
        Fate.REFUSED,
    ]


@pytest.mark.both_engines
def test_ids_taken_since_the_look_up_are_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process stores a task with one of the ids in between."""

    def meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(imports, "rows_of", rows_of)
        create_tree(caller=LOCAL, tasks=[{"id": "root", "name": "Mine"}])
        return rows_of(*args, **options)

    monkeypatch.setattr(imports, "rows_of", meanwhile)
    (outcome,) = import_trees(trees=[tree(ROOT)])
    assert outcome.fate is Fate.REFUSED
    assert Task.objects.get(id="root").name == "Mine"


@pytest.mark.both_engines
def test_an_unfinished_tree_goes_on_and_keeps_what_is_completed(worker: WorkerThread) -> None:
    echo = {"parent_id": "root", "schemas": {"method": "echo_executor"}}
    tasks = [
        ROOT,
        {"id": "a"} | echo,
        {"id": "b", "inputs": {"x": 1}, "dependencies": ["a"]} | echo,
        {"id": "c"} | echo,
    ]
    foreign = tree(*tasks, root=Status.PENDING, b=Status.PENDING, c=Status.FAILED)
    states = dict(foreign.states) | {"a": state(Status.COMPLETED, result={"old": True}, progress=1.0)}
    import_trees(trees=[ForeignTree(tasks=foreign.tasks, states=states)])
    run = execute_task(caller=LOCAL, task_id="root").run
    worker.work()
    assert result_of(run).statuses() == dict.fromkeys(("root", "a", "b", "c"), "completed")
    results = {task.id: task.result for task in get_tree(caller=LOCAL, task_id="root")}
    assert results["a"] == {"old": True}
    assert results["b"] == {"x": 1, "a": {"old": True}}


def test_a_pending_task_whose_executor_is_not_here_is_warned_of() -> None:
    theirs = {"id": "root", "params": {"executor_id": "their_executor"}}
    warned, ended = tree(theirs, root=Status.PENDING), tree(theirs)
    assert [import_trees(trees=[each], dry_run=True)[0].warnings for each in (warned, ended)] == [
        [("root", "It fails when it runs: Executor 'their_executor' is not registered or not enabled.")],
        [],
    ]
