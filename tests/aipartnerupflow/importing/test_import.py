"""Imports of databases that the real packages wrote (`predecessors.py`): on both engines, from files and servers."""

import pytest

from accounts.callers import LOCAL
from aipartnerupflow.importing import importer
from tasks.models import Run, Task, TaskEvent
from tasks.services.trees import create_tree
from tasks.services.trees.queries import get_tree
from tests.aipartnerupflow.importing.recorded import KINDS, NAMES, assert_same, imported, recorded, tasks_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "duckdb" else [pytest.mark.both_engines]) for kind in KINDS],
)
@pytest.mark.parametrize("name", NAMES)
def test_an_import_keeps_trees_statuses_and_results(name: str, kind: str) -> None:
    with recorded(name, kind) as source:
        report = imported(source)
    old = tasks_of(name, kind)
    assert (report.tasks, report.trees) == (len(old), sum(task["parent_id"] is None for task in old))
    assert report.left_out == []
    assert_same(old)
    assert [task.id for task in get_tree(caller=LOCAL, task_id="done-b")] == ["done", "done-a", "done-b"]


@pytest.mark.both_engines
@pytest.mark.parametrize("name", NAMES)
def test_a_second_import_changes_nothing(name: str) -> None:
    with recorded(name) as source:
        imported(source)
        again = imported(source)
    old = tasks_of(name)
    assert (again.trees, again.tasks, again.tasks_here_already, again.left_out) == (0, 0, len(old), [])
    assert_same(old)


def test_a_dry_run_reports_the_same_and_stores_nothing() -> None:
    with recorded("v0_18") as source:
        planned = imported(source, dry_run=True)
        assert not Task.objects.exists()
        assert not Run.objects.exists()
        done = imported(source)
    assert planned.as_json() | {"dry_run": False} == done.as_json()


def test_trees_without_an_owner_get_the_given_one() -> None:
    with recorded("v0_9") as source:
        imported(source, user="carol")
    assert_same(tasks_of("v0_9"), default_user="carol")


@pytest.mark.both_engines
def test_an_ended_tree_has_a_run_that_ended_then() -> None:
    with recorded("v0_9") as source:
        imported(source)
    runs = {run.root_id: run for run in Run.objects.all()}
    assert {root_id: run.status for root_id, run in runs.items()} == {
        "done": "completed",
        "alone": "completed",
        "stopped": "cancelled",
    }
    done = Task.objects.get(id="done")
    assert (runs["done"].finished_at, runs["done"].user_id) == (done.completed_at, "alice")
    assert not TaskEvent.objects.exists()


def test_the_report_says_what_was_changed() -> None:
    with recorded("v0_18") as source:
        report = imported(source)
    notes = {(note.task_id, note.text.split()[0]): dict(note.fields) for note in report.notes}
    assert notes["scheduled", "This"] == {
        "schedule_type": "cron",
        "schedule_expression": "0 9 * * 1-5",
        "schedule_enabled": "true",
        "max_runs": "10",
    }
    assert {("running-a", "It"), ("new-a", "It"), ("scheduled", "It")} <= notes.keys()
    (text,) = [note.text for note in report.notes if note.task_id == "new-a"]
    assert text.startswith("It fails when it runs: Executor 'ssh_executor' is not registered or not enabled. Enable it")


@pytest.mark.both_engines
def test_ids_that_are_in_use_are_not_touched() -> None:
    create_tree(caller=LOCAL, tasks=[{"id": "done-a", "name": "Mine"}])
    with recorded("v0_9") as source:
        report = imported(source)
    (left_out,) = report.left_out
    assert (left_out.id, left_out.tasks) == ("done", 3)
    assert "'done-a' is in use" in left_out.reason
    assert Task.objects.get(id="done-a").name == "Mine"
    assert not Task.objects.filter(id="done").exists()


@pytest.mark.both_engines
def test_an_import_of_many_trees_takes_a_transaction_per_batch(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(importer, "BATCH", 5)
    with recorded("v0_18") as source, django_assert_max_num_queries(6 * 4):  # type: ignore[operator]
        imported(source)
    assert_same(tasks_of("v0_18"))
