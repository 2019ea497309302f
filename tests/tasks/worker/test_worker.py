"""A worker process: it takes what waits, many trees at once, and gives back what it may not finish."""

import asyncio
import gc
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from accounts.callers import LOCAL, Caller
from aipartnerupflow.executors import Context, Executor
from tasks.models import Run, Task, WorkerProcess
from tasks.queue import black_box, leases, notify
from tasks.queue.suspicion import POISON_STRIKES
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.runs.cancels import Cancel
from tasks.worker import group_commit, watchdog
from tasks.worker import worker as worker_module
from tasks.worker.cancellations import Cancellations
from tasks.worker.changes import Change
from tasks.worker.engine import TreeRun
from tasks.worker.load_run import Found, LoadedTask, poll
from tasks.worker.loop_turns import STEPS_PER_TURN
from tasks.worker.run_recorder import RunRecorder
from tasks.worker.shares import TreeMemory, convicts_per_user
from tasks.worker.worker import FEW_AT_ONCE, MANY_TASKS
from tests.acceptance.effects import Effects
from tests.sections import replace
from tests.servers import EXECUTORS, until
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.trees import ALICE, BOB
from tests.workers import Json, WorkerThread, group, result_of, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


OF_RUNS = ("tasks.worker.", "tasks.rules.", "aipartnerupflow.", "tasks.executors.")
"""The modules of the objects that belong to one run."""


def execute(*tasks: Json, caller: Caller = LOCAL) -> Run:
    return trees.execute_tree(caller=caller, tasks=list(tasks)).run


def with_worker(settings: Settings, *, options: Json | None = None, **fields: int) -> WorkerThread:
    settings.APFLOW = replace(settings.APFLOW, worker=replace(settings.APFLOW.worker, **fields))
    return WorkerThread(**(options or {}))


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


@pytest.mark.usefixtures("worker")  # it has the executor
def test_large_runs_are_loaded_a_few_at_a_time_and_small_ones_more_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerThread()
    loaded = list[list[int]]()

    def poll_and_note(*args: Any, **options: Any) -> Found:
        found = poll(*args, **options)
        if found.claimed:
            loaded.append([len(tasks) for _, tasks, _ in found.claimed])
        return found

    monkeypatch.setattr(worker_module, "poll", poll_and_note)
    large = [execute(*group(f"g{number}", *map(step, names(70, number))), caller=ALICE) for number in range(22)]
    small = [execute(step(f"small {number}"), caller=ALICE) for number in range(30)]
    worker.work()
    assert {result_of(run).run.status for run in [*large, *small]} == {"completed"}
    after_many = [len(then) for sizes, then in pairwise(loaded) if sum(sizes) > MANY_TASKS]
    assert after_many
    assert max(after_many) <= FEW_AT_ONCE
    assert max(map(len, loaded)) > 4 * FEW_AT_ONCE


def names(count: int, tree: int) -> list[str]:
    return [f"{tree}/{number}" for number in range(count)]


def most_in_one_turn(monkeypatch: pytest.MonkeyPatch, of: Any, name: str) -> Callable[[], int]:
    """Return a function that tells how often this method was called in one turn of the event loop, at most."""
    calls, turn = Counter[int](), count()
    at = next(turn)

    def pass_turn() -> None:
        nonlocal at
        at = next(turn)

    def call_and_note(*args: Any, **options: Any) -> Any:
        if not calls[at]:
            asyncio.get_running_loop().call_soon(pass_turn)
        calls[at] += 1
        return method(*args, **options)

    method = getattr(of, name)
    monkeypatch.setattr(of, name, call_and_note)
    return lambda: max(calls.values())


@pytest.mark.parametrize(("then", "status"), [("end", "completed"), ("fail", "failed")])
def test_a_run_that_starts_or_blocks_thousands_of_tasks_lets_others_have_the_loop(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch, then: str, status: str
) -> None:
    started, ended = (most_in_one_turn(monkeypatch, RunRecorder, name) for name in ("started", "changes_at_end"))
    first = step("first", inputs={"then": then})
    run = execute(*group("g", first, *(step(name, dependencies=["first"]) for name in names(1_000, 0))))
    worker.work()
    assert result_of(run).run.status == status
    assert max(started(), ended()) <= STEPS_PER_TURN


def test_a_run_whose_thousands_of_tasks_are_cancelled_lets_others_have_the_loop(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended, effects = most_in_one_turn(monkeypatch, RunRecorder, "changes_at_end"), tmp_path / "effects"
    inputs = {"gate": str(tmp_path / "gate"), "effects": str(effects)}
    waiting = (step(name, dependencies=["0/0"]) for name in names(500, 1))
    run = execute(*group("g", *(step(name, inputs=inputs) for name in names(1_000, 0)), *waiting))
    working = in_background(worker)
    until(effects.exists, seconds=60, what="the start of the first")
    cancels.ask(caller=LOCAL, task_ids=["g"], force=False, message="")
    working.join()
    ran = result_of(run)
    assert set(ran.statuses().values()) == {"cancelled"}
    assert ended() <= 2 * STEPS_PER_TURN  # tasks that did not begin, and jobs that were stopped in the turn before


def test_a_cancellation_that_each_poll_brings_again_walks_the_tree_only_after_it_has_grown() -> None:
    asked, request = list[str](), Cancel("g", force=False, message="")

    def is_open(task_id: str) -> bool:
        asked.append(task_id)
        return True

    cancellations = Cancellations({"g": ["a", "b"]}, is_open=is_open)
    assert cancellations.add(request) == ["b", "a", "g"]
    assert cancellations.add(request) == []
    assert asked == ["b", "a", "g"]
    cancellations.grow({"a": ["new"]})
    assert cancellations.add(request) == ["new"]


@pytest.mark.parametrize(
    ("executor_id", "inputs"),
    [("asking_executor", {"until": "yes"}), ("spawning_executor", {"tasks": [{"id": "new", **step("new")}]})],
)
def test_a_task_that_is_cancelled_but_not_stopped_yet_neither_waits_nor_grows(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch, executor_id: str, inputs: Json
) -> None:
    """Of thousands of cancelled tasks the last ones are stopped some turns of the loop later."""
    started = RunRecorder.started

    async def start_and_be_cancelled(recorder: RunRecorder, task: LoadedTask, **options: Any) -> None:
        await started(recorder, task, **options)
        (tree,) = worker._worker._trees.values()
        tree.cancel(Cancel(task.id, force=False, message="Never mind"))

    monkeypatch.setattr(RunRecorder, "started", start_and_be_cancelled)
    monkeypatch.setattr(TreeRun, "_stop", lambda tree, task_id: None)
    run = execute({"id": "t", "name": "t", "schemas": {"method": executor_id}, "inputs": inputs})
    worker.work()
    assert result_of(run).statuses() == {"t": "cancelled"}


def test_what_a_run_leaves_is_freed_at_its_end_without_the_garbage_collector(worker: WorkerThread) -> None:
    """A collection of the objects of a large tree would stop the whole process."""
    execute(step("warm-up"))
    worker.work()
    execute(*group("g", *map(step, names(50, 0))))
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        worker.work()
        gc.collect()
        assert (
            Counter(type(each).__name__ for each in gc.garbage if type(each).__module__.startswith(OF_RUNS))
            == Counter()
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_the_last_step_and_the_end_of_the_run_are_one_commit(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[list[str]]()

    def write_and_note(changes: Sequence[Change]) -> list[BaseException | None]:
        written.append([type(change).__name__ for change in changes])
        return write_together(changes)

    write_together = group_commit._write_together
    monkeypatch.setattr(group_commit, "_write_together", write_and_note)
    execute(step("first"), step("second", parent_id="first", dependencies=[{"id": "first"}]))
    worker.work()
    assert written[-1][-2:] == ["TaskFinished", "RunClosed"]
    assert [change for commit in written[:-1] for change in commit].count("TaskFinished") == 1


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


def test_a_request_to_a_busy_worker_of_which_it_is_not_notified_is_carried_out(
    worker: WorkerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that stored it may have ended before it sent the notification."""
    effects = tmp_path / "effects"
    run = execute(step("t", inputs={"gate": str(tmp_path / "gate"), "effects": str(effects)}))
    working = in_background(worker)
    until(effects.exists, seconds=60, what="the task's start")
    monkeypatch.setattr(notify, "send", lambda topic, *, can_wait=False: None)
    monkeypatch.setattr(notify, "LISTEN_SECONDS", 0.05)
    cancels.ask(caller=LOCAL, task_ids=["t"], force=False, message="")
    working.join()
    assert result_of(run).run.status == "cancelled"


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
    worker = with_worker(settings, drain_seconds=600)
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


# --- places ---


@pytest.mark.parametrize(
    ("inputs", "params"),
    [
        ({}, {}),
        ({"fails_until_attempt": 2}, {"retry": {"max_attempts": 2, "backoff_seconds": 0}}),
        ({"then": "ask"}, {}),
        pytest.param({}, {"pool": "process"}, marks=pytest.mark.both_engines_nightly),
    ],
    ids=["end", "retry", "question", "process"],
)
def test_no_task_begins_before_what_had_its_place_is_committed(
    settings: Settings,
    transactional_db: None,
    test_executors: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    inputs: Json,
    params: Json,
) -> None:
    """A worker that dies then leaves no more to repeat than it had places, in all its trees together."""
    is_in_process = "pool" in params
    if is_in_process:
        monkeypatch.setenv("AIPARTNERUPFLOW_EXECUTORS_MODULES", EXECUTORS)
        pools = settings.APFLOW.pools
        settings.APFLOW = replace(settings.APFLOW, pools=replace(pools, process=replace(pools.process, size=2)))
    worker = with_worker(settings, max_tasks=100 if is_in_process else 2)
    effects = Effects(tmp_path / "effects")
    task = effects.gated(effects.step("a"))
    task |= {"inputs": task["inputs"] | inputs, "params": params}
    with worker.new_processes():
        execute(*group("tree", *(task | {"id": name, "name": name} for name in "abc")))
        for name in "def":
            execute(task | {"id": name, "name": name})
        working = in_background(worker)
        until(lambda: len(effects.lines()) == 2, seconds=60, what="two tasks at work")
        with worker.nothing_is_committed() as count_held:
            effects.open_gate()
            until(lambda: count_held() >= 2, seconds=60, what="what both have come to")
            worker.turn(1000)
            assert effects.counts("start").total() == 2
        working.join()
    assert effects.counts("start").keys() == set("abcdef")


# --- shares of users ---


@pytest.mark.parametrize("scarce", ["max_trees", "max_tasks"])
def test_work_of_hours_leaves_room_for_other_users(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path, scarce: str
) -> None:
    settings.APFLOW = replace(settings.APFLOW, auth=replace(settings.APFLOW.auth, enabled=True))
    gate = tmp_path / "gate"
    long = [execute(step(f"t{number}", inputs={"gate": str(gate)}), caller=ALICE) for number in range(6)]
    sizes = {"max_trees": 100, "max_tasks": 100, scarce: 4}
    worker = with_worker(settings, user_share=50, max_trees=sizes["max_trees"], max_tasks=sizes["max_tasks"])
    working = in_background(worker)
    at_work = Task.objects.filter(status="in_progress")
    until(lambda: at_work.count() == 2, seconds=60, what="her share")
    for number in range(3):
        assert_completed(execute(step(f"b{number}"), caller=BOB))
    assert at_work.count() == 2, "she has no more, although there is room"
    gate.touch()
    working.join()
    assert {result_of(run).run.status for run in long} == {"completed"}


@pytest.mark.parametrize("scarce", ["max_trees", "max_tasks"])
def test_a_user_may_have_a_smaller_and_another_a_larger_share(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path, scarce: str
) -> None:
    settings.APFLOW = replace(
        settings.APFLOW, auth=replace(settings.APFLOW.auth, enabled=True), shares={"alice": 20, "bob": 100}
    )
    gate = tmp_path / "gate"
    alices, bobs = (
        [execute(step(f"{one.user_id}-{number}", inputs={"gate": str(gate)}), caller=one) for number in range(12)]
        for one in (ALICE, BOB)
    )
    sizes = {"max_trees": 100, "max_tasks": 100, scarce: 10}
    worker = with_worker(settings, user_share=50, max_trees=sizes["max_trees"], max_tasks=sizes["max_tasks"])
    working = in_background(worker)
    at_work = Task.objects.filter(status="in_progress")
    until(lambda: at_work.count() == 10, seconds=60, what="all places taken")
    assert Counter(at_work.values_list("user_id", flat=True)) == {"alice": 2, "bob": 8}
    gate.touch()
    working.join()
    assert {result_of(run).run.status for run in [*alices, *bobs]} == {"completed"}


def test_trees_wait_while_those_that_run_fill_the_memory(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    """Each exceeds the limit, and runs nevertheless; the others are given back to the queue until then."""
    effects = tmp_path / "effects"
    inputs = {"seconds": 0.05, "effects": str(effects), "text": "x" * 100_000}
    made = [execute(step(f"t{number}", inputs=inputs)) for number in range(4)]
    with_worker(settings, tree_bytes=100_000).work()
    assert [line.split()[0] for line in effects.read_text().splitlines()] == ["start", "end"] * 4
    assert [result_of(run).run.losses for run in made] == [0] * 4


def test_large_trees_of_one_user_leave_memory_for_others(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    settings.APFLOW = replace(settings.APFLOW, auth=replace(settings.APFLOW.auth, enabled=True))
    gate = tmp_path / "gate"
    large = {"gate": str(gate), "text": "x" * 100_000}
    mallorys = [execute(step(f"large-{number}", inputs=large), caller=ALICE) for number in range(3)]
    bobs = execute(step("small"), caller=BOB)
    worker = with_worker(settings, tree_bytes=130_000)
    working = in_background(worker)
    until(lambda: result_of(bobs).run.finished_at, seconds=60, what="the end of Bob's tree")
    assert len([run for run in mallorys if result_of(run).run.lease_owner]) == 1
    gate.touch()
    working.join()
    assert {result_of(run).run.status for run in mallorys} == {"completed"}


def test_a_share_of_a_user_applies_to_memory_and_quarantine(settings: Settings) -> None:
    worker = replace(settings.APFLOW.worker, quarantine=2)
    shares = {"alice": 25, "bob": 1}
    settings.APFLOW = replace(
        settings.APFLOW, auth=replace(settings.APFLOW.auth, enabled=True), worker=worker, shares=shares
    )
    assert [convicts_per_user()(user_id) for user_id in ("alice", "bob", "carol")] == [2, 1, 6]
    memory = TreeMemory(100)
    for user_id in ("alice", "carol"):
        memory.take(user_id, 25)
    assert [memory.copy().has_room(user_id) for user_id in ("alice", "bob", "carol")] == [False, True, True]
    assert memory.full_users == ["alice"]
    settings.APFLOW = replace(settings.APFLOW, auth=replace(settings.APFLOW.auth, enabled=False))
    assert convicts_per_user()("alice") == 8, "without authentication all users are the same"


def assert_completed(run: Run) -> None:
    until(lambda: result_of(run).run.status == "completed", seconds=60, what="another user's run")


# --- draining ---


def test_draining_it_begins_no_further_step(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    """Not the next one of the chain, not one that waits for a slot, not another attempt."""
    worker = with_worker(settings, drain_seconds=600, max_tasks=2)
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    at_work = {"gate": str(gate), "effects": str(effects)}
    chain = execute(
        step("root", dependencies=["first"], inputs={"effects": str(effects)}),
        step("first", parent_id="root", inputs=at_work),
    )
    failing = execute(
        step("failing", inputs=at_work | {"fails_until_attempt": 2}, params={"retry": {"max_attempts": 2}})
    )
    working = in_background(worker)
    until(lambda: effects.exists() and lines_of(effects) == 2, seconds=60, what="two at work")
    waiting = execute(step("waiting", inputs={"effects": str(effects)}))
    until(lambda: Run.objects.get(id=waiting.id).epoch, seconds=60, what="its claim")
    worker.drain()
    gate.touch()
    working.join()
    assert sorted(effects.read_text().splitlines()) == ["end first", "start failing", "start first"]
    for run in (chain, failing, waiting):
        run.refresh_from_db()
        assert (run.lease_owner, run.losses, run.finished_at) == (None, 0, None)
    WorkerThread().work()
    assert {result_of(run).run.status for run in (chain, failing, waiting)} == {"completed"}
    assert result_of(failing).tasks["failing"].attempt == 2


# --- runs that are suspected ---


def test_a_suspect_returns_to_the_others_once_a_task_of_it_has_ended(
    settings: Settings, transactional_db: None, test_executors: None
) -> None:
    run = execute(step("root", dependencies=["first"]), step("first", parent_id="root"))
    Run.objects.filter(id=run.id).update(losses=1, strikes=1)
    ordinary, quarantine = WorkerThread(), WorkerThread(in_quarantine=True)
    ordinary.work()
    assert Run.objects.get().epoch == 0
    quarantine.work()
    ran = result_of(run)
    assert (ran.statuses(), ran.run.lease_owner) == ({"first": "completed", "root": "pending"}, None)
    assert (ran.run.losses, ran.run.strikes) == (0, 0)
    ordinary.work()
    assert result_of(run).run.status == "completed"


def test_a_convict_stays_alone_and_does_one_task_at_a_time(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    inputs = {"effects": str(effects), "seconds": 0.02}
    run = execute(step("root", inputs=inputs), *(step(name, parent_id="root", inputs=inputs) for name in "ab"))
    Run.objects.filter(id=run.id).update(strikes=2)
    WorkerThread(in_quarantine=True).work()
    assert result_of(run).run.status == "completed"
    assert [line.split()[0] for line in effects.read_text().splitlines()] == ["start", "end"] * 3


def test_a_suspect_that_stays_alive_lets_the_next_one_in(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    patient, following = execute(step("patient", inputs={"gate": str(gate)})), execute(step("following"))
    Run.objects.update(losses=3, suspected_at=timezone.now() - timedelta(minutes=1))
    quarantine = with_worker(settings, options={"in_quarantine": True}, quarantine_seconds=1)
    working = in_background(quarantine)
    until(lambda: Run.objects.get(id=following.id).finished_at, seconds=60, what="the end of the next suspect")
    still = Run.objects.get(id=patient.id)
    assert (still.finished_at, still.losses) == (None, 3), "it has not been cleared by being alive"
    until(lambda: patient.id in black_box.runs_in(str(still.lease_owner)), seconds=60, what="the suspect's name")
    gate.touch()
    working.join()
    assert result_of(patient).run.status == "completed"


def test_of_a_poisonous_run_only_the_task_that_was_at_work_fails(
    settings: Settings, transactional_db: None, test_executors: None, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    inputs = {"effects": str(effects)}
    run = execute(step("root"), *(step(name, parent_id="root", inputs=inputs) for name in ("deadly", "other")))
    now = timezone.now()
    Task.objects.filter(id="other").update(status="in_progress", attempt=1, started_at=now)
    Task.objects.filter(id="deadly").update(status="in_progress", attempt=1, started_at=now + timedelta(seconds=1))
    Run.objects.filter(id=run.id).update(strikes=POISON_STRIKES)
    WorkerThread(in_quarantine=True).work()
    ran = result_of(run)
    assert ran.statuses() == {"root": "completed", "deadly": "failed", "other": "completed"}
    assert "Poison" in (ran.tasks["deadly"].error or "")
    assert effects.read_text().splitlines() == ["start other", "end other"]


# --- a blocked event loop ---


class Blocking(Executor):
    """Blocks its event loop until the FIFO `gate` is opened for writing."""

    id = "stuck_executor"
    name = "Blocking"
    description = "Blocks the event loop."

    async def execute(self, inputs: Json, context: Context) -> None:
        os.close(os.open(inputs["gate"], os.O_RDONLY))


def test_a_task_that_blocks_the_loop_for_too_long_fails_and_others_go_on_elsewhere(
    settings: Settings, transactional_db: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.APFLOW_EXECUTOR_MODULES = (EXECUTORS, __name__)
    forget_registry()
    gate, fifo, was_ended = tmp_path / "gate", tmp_path / "fifo", threading.Event()
    os.mkfifo(fifo)
    neighbour = execute(step("neighbour", inputs={"gate": str(gate)}))
    worker = with_worker(settings, options={"end_process": was_ended.set}, stall_seconds=3)
    working = in_background(worker)
    until(lambda: Task.objects.get().status == "in_progress", seconds=60, what="the neighbour's start")
    blocking = execute({"id": "blocking", "name": "stuck_executor", "inputs": {"gate": str(fifo)}})
    assert was_ended.wait(60)
    ran, beside = result_of(blocking), result_of(neighbour)
    assert ran.statuses() == {"blocking": "failed"}
    error = r"Blocked the worker for \d s in Blocking\.execute \(test_worker\.py:"
    assert re.match(error, ran.tasks["blocking"].error or "")
    assert (beside.run.lease_owner, beside.run.losses, beside.run.strikes, beside.run.finished_at) == (None, 0, 0, None)
    assert re.search(r"has been blocked for \d s by task blocking \(stuck_executor\)", caplog.text)
    gate.touch()
    os.close(os.open(fifo, os.O_WRONLY))
    working.join()
    WorkerThread().work()
    assert result_of(neighbour).run.status == "completed"
    assert result_of(blocking).run.status == "failed"
    forget_registry()


def test_a_blocked_loop_costs_no_lease(
    settings: Settings, transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.APFLOW_EXECUTOR_MODULES = (__name__,)
    forget_registry()
    monkeypatch.setattr(watchdog, "KEEP_SECONDS", 0.5)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = execute({"id": "blocking", "name": "stuck_executor", "inputs": {"gate": str(fifo)}})
    working = in_background(WorkerThread())
    until(lambda: Task.objects.get().status == "in_progress", seconds=60, what="the task's start")
    for _ in range(2):
        Run.objects.filter(id=run.id).update(lease_expires_at=Now())
        expired_at = Run.objects.get().lease_expires_at
        renewed = Run.objects.filter(lease_expires_at__gt=expired_at)
        until(renewed.exists, seconds=60, what="a renewal")
    os.close(os.open(fifo, os.O_WRONLY))
    working.join()
    ran = result_of(run)
    assert (ran.run.status, ran.run.epoch) == ("completed", 1)
    forget_registry()
