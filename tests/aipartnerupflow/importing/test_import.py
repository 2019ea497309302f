"""Imports of databases that the real packages wrote (`predecessors.py`): on both engines, from files and servers."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from accounts.callers import LOCAL
from aipartnerupflow.importing import importer
from aipartnerupflow.importing.sources import open_source
from tasks.models import Firing, Run, Schedule, Task, TaskEvent
from tasks.queue import clock
from tasks.services.trees import create_tree
from tasks.services.trees.queries import get_tree
from tests.aipartnerupflow.importing.recorded import KINDS, NAMES, TABLE, assert_same, imported, recorded, tasks_of
from tests.tasks.schedules.conftest import NOON, Clock, sweep

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of schedules, which stands at noon of a Thursday until it is set."""
    made = Clock()
    monkeypatch.setattr(clock, "database_time", lambda: made.now)
    return made


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
    assert ("scheduled", "This") not in notes
    assert {("running-a", "It"), ("new-a", "It"), ("scheduled", "It")} <= notes.keys()
    (text,) = [note.text for note in report.notes if note.task_id == "new-a"]
    assert text.startswith("It fails when it runs: Executor 'ssh_executor' is not registered or not enabled. Enable it")


@pytest.mark.both_engines
@pytest.mark.parametrize("kind", KINDS)
def test_the_old_cron_job_is_imported_and_fires_here(kind: str, at_noon: Clock) -> None:
    with recorded("v0_18", kind) as source:
        assert imported(source, dry_run=True).schedules == 1
        assert not Schedule.objects.exists()
        report = imported(source)
        assert (report.schedules, imported(source).schedules) == (1, 0)
    (schedule,) = Schedule.objects.all()
    assert (schedule.task_id, schedule.schedule_type, schedule.cron) == ("scheduled", "cron", "0 9 * * 1-5")
    assert (schedule.user_id, schedule.max_runs, schedule.run_count, schedule.is_paused) == ("alice", 10, 0, False)
    assert (at_noon.now.weekday(), schedule.next_run_at) == (3, NOON + timedelta(hours=21))
    at_noon.passes(hours=21)
    assert sweep() == 1
    (run,) = Run.objects.filter(root_id="scheduled")
    assert (run.status, run.user_id) == ("pending", "alice")
    assert Firing.objects.get(schedule=schedule).outcome == "started"


def database_with(folder: Path, root: dict[str, str], child: dict[str, str]) -> Path:
    """A database with a tree of two tasks, in the columns of apflow 0.18."""
    common: dict[str, str | None] = {"status": "pending", "created_at": "2026-01-01T00:00:00", "user_id": "alice"}
    rows: list[dict[str, str | None]] = [
        {"id": "top", "name": "Top", "parent_id": None, **common, **root},
        {"id": "below", "name": "Below", "parent_id": "top", **common, **child},
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = folder / "apflow.sqlite3"
    file.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE {TABLE} ({', '.join(columns)})")
        values = [[row.get(name) for name in columns] for row in rows]
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(columns))})", values)
        connection.commit()
    return file


def test_schedules_that_cannot_be_imported_are_left_out_by_name_and_their_trees_are_not(
    at_noon: Clock, tmp_path: Path
) -> None:
    hourly = {"schedule_type": "interval", "schedule_expression": "3600", "schedule_enabled": "1", "run_count": "4"}
    over = {"schedule_type": "once", "schedule_expression": "2025-01-01T00:00:00Z", "schedule_enabled": "1"}
    odd = {"schedule_type": "cron", "schedule_expression": "* * *", "schedule_enabled": "true"}
    cases: list[tuple[dict[str, str], dict[str, str], dict[str, str]]] = [
        (over, {}, {"top": "in the past"}),
        (odd, {}, {"top": "must have 5 fields"}),
        (hourly, hourly, {"below": "only the root of a tree"}),
    ]
    for root, child, reasons in cases:
        for dry_run in (True, False):
            with open_source(str(database_with(tmp_path, root, child)), table=TABLE) as source:
                report = imported(source, dry_run=dry_run)
            assert (report.trees, report.schedules) == (1, int(root is hourly))
            assert {each.id: each.tasks for each in report.left_out} == dict.fromkeys(reasons, 0)
            assert all(reasons[each.id] in each.reason for each in report.left_out), report.left_out
        assert Schedule.objects.count() == int(root is hourly)
        assert Task.objects.count() == 2
        if root is not hourly:
            Task.objects.all().delete()
    assert (Schedule.objects.get().run_count, Schedule.objects.get().every_seconds) == (4, 3600)


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
    with recorded("v0_18") as source, django_assert_max_num_queries(6 * 6 + 15):  # type: ignore[operator]
        imported(source)
    assert_same(tasks_of("v0_18"))
