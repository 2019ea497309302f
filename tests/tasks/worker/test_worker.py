"""A worker process: it takes what waits, many trees at once, and gives back what it may not finish."""

import threading
from pathlib import Path

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import Run, Task, WorkerProcess
from tasks.queue import leases
from tasks.services import trees
from tests.sections import replace
from tests.servers import until
from tests.workers import Json, WorkerThread, result_of, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def execute(*tasks: Json) -> Run:
    return trees.execute_tree(caller=LOCAL, tasks=list(tasks)).run


def with_worker(settings: Settings, **fields: int) -> WorkerThread:
    settings.APFLOW = replace(settings.APFLOW, worker=replace(settings.APFLOW.worker, **fields))
    return WorkerThread()


def in_background(worker: WorkerThread) -> threading.Thread:
    thread = threading.Thread(target=worker.work)
    thread.start()
    return thread


def test_one_wake_up_does_all_that_waits(worker: WorkerThread, tmp_path: Path) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    inputs = {"gate": str(gate), "effects": str(effects)}
    made = [execute(step(f"t{number}", inputs=inputs)) for number in range(50)]
    working = in_background(worker)
    until(lambda: effects.exists() and lines_of(effects) == 50, seconds=60, what="all fifty side by side")
    gate.touch()
    working.join()
    assert {result_of(run).run.status for run in made} == {"completed"}


def lines_of(file: Path) -> int:
    return len(file.read_text().splitlines())


def test_a_wake_up_without_work_does_nothing(worker: WorkerThread) -> None:
    worker.work()
    assert not Run.objects.exists()


def test_it_hears_of_work_while_it_works(worker: WorkerThread, tmp_path: Path) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    first = execute(step("first", inputs={"gate": str(gate), "effects": str(effects)}))
    working = in_background(worker)
    until(effects.exists, seconds=60, what="the first task's start")
    second = execute(step("second"))
    until(lambda: result_of(second).run.finished_at, seconds=60, what="the end of the second")
    assert result_of(first).run.finished_at is None
    gate.touch()
    working.join()
    assert result_of(first).run.status == "completed"


def test_no_more_trees_than_allowed_run_at_once(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    for number in range(3):
        execute(step(f"t{number}", inputs={"seconds": 0.05, "effects": str(effects)}))
    with_worker(settings, max_trees=1).work()
    lines = effects.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["start", "end"] * 3


def test_at_work_it_gives_signs_of_life(worker: WorkerThread) -> None:
    WorkerProcess.objects.all().delete()
    fresh = WorkerThread()
    fresh.work()
    assert WorkerProcess.objects.get().id == leases.process_name()


def test_draining_it_ends_what_runs_and_claims_nothing_more(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    worker = with_worker(settings, drain_seconds=30)
    effects = tmp_path / "effects"
    running = execute(step("running", inputs={"seconds": 0.4, "effects": str(effects)}))
    working = in_background(worker)
    until(effects.exists, seconds=60, what="the task's start")
    worker.drain()
    waiting = execute(step("waiting"))
    working.join()
    assert result_of(running).run.status == "completed"
    assert (result_of(waiting).run.status, result_of(waiting).run.epoch) == ("pending", 0)


def test_what_does_not_end_in_time_is_given_back(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    worker = with_worker(settings, drain_seconds=0)
    effects = tmp_path / "effects"
    run = execute(step("long", inputs={"seconds": 60, "effects": str(effects)}))
    working = in_background(worker)
    until(effects.exists, seconds=60, what="the task's start")
    worker.drain()
    working.join()
    run.refresh_from_db()
    assert (run.lease_owner, run.losses, run.finished_at) == (None, 0, None)
    assert effects.read_text() == "start long\ngive-up long\n"
    (claim,) = leases.claim(owner="another/1/1", limit=1)
    assert claim.run_id == run.id


def test_a_worker_that_lost_its_lease_stops_and_writes_nothing(worker: WorkerThread, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = execute(step("slow", inputs={"gate": str(gate)}))
    working = in_background(worker)
    until(lambda: Task.objects.get().status == "in_progress", seconds=60, what="the task's start")
    Run.objects.filter(id=run.id).update(epoch=99, lease_owner="another/1/1")
    gate.touch()
    working.join()
    run.refresh_from_db()
    assert (run.finished_at, run.lease_owner) == (None, "another/1/1")
    assert Task.objects.get().status == "in_progress"
