"""The engine: what it starts when, what its tasks get, how they end, and what is told of it."""

import logging
import math
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from aipartnerupflow.executors import Context, Executor
from tasks.models import Question, Run, Task
from tasks.queue import leases
from tasks.services import trees
from tasks.services.trees.copies import copy_tree
from tasks.services.trees.editing import update_task
from tests.executors_for_tests import SECRET
from tests.sections import replace
from tests.servers import EXECUTORS, until
from tests.tasks.executors.conftest import forget_registry
from tests.workers import Json, Ran, WorkerThread, group, result_of, run_tree, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]


class Leaving(Executor):
    """Ends its process, as scripts do."""

    id = "leaving_executor"
    name = "Leaving"
    description = "Calls sys.exit()."

    async def execute(self, inputs: Json, context: Context) -> Json:
        sys.exit(3)


# --- order ---


@pytest.mark.both_engines
def test_a_chain_runs_in_order_and_a_group_after_its_children(run: RunTree) -> None:
    ran = run(group("g", step("c", dependencies=["b"]), step("b", dependencies=["a"]), step("a")))
    assert ran.order("task_completed") == ["a", "b", "c", "g"]
    assert set(ran.statuses().values()) == {"completed"}
    assert ran.run.status == "completed"
    assert ran.run.finished_at is not None


@pytest.mark.both_engines
def test_the_times_of_a_run_follow_no_clock_that_can_be_set(run: RunTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """But the database's at the claim, and a steady one since: here an hour passes whenever it is looked at."""
    hours = count()
    monkeypatch.setattr(leases, "steady_seconds", lambda: next(hours) * 3600.0)
    ran = run(group("g", step("b", dependencies=["a"]), step("a")))
    times = [datetime.fromisoformat(event["timestamp"]) for event in ran.events]
    assert all(later - earlier >= timedelta(hours=1) for earlier, later in pairwise(times))
    started, ended = ran.run.started_at, ran.run.finished_at
    assert started and ended
    assert started < times[0] < times[-1] < ended + timedelta(hours=2)
    assert ran.tasks["a"].completed_at and ran.tasks["a"].started_at
    assert ran.tasks["a"].completed_at - ran.tasks["a"].started_at >= timedelta(hours=1)


def test_a_parent_with_an_executor_does_not_wait_for_its_children(run: RunTree) -> None:
    ran = run([step("parent"), step("child", parent_id="parent", inputs={"seconds": 0.5})])
    assert ran.order("task_completed") == ["parent", "child"]


@pytest.mark.both_engines
def test_independent_tasks_run_side_by_side(run: RunTree, tmp_path: Path) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"

    def open_gate() -> None:
        until(lambda: effects.exists() and len(effects.read_text().splitlines()) == 20, seconds=60, what="all 20")
        gate.touch()

    opener = threading.Thread(target=open_gate)
    opener.start()
    inputs = {"effects": str(effects), "gate": str(gate)}
    ran = run(group("g", *(step(f"s{number}", inputs=inputs) for number in range(20))))
    opener.join()
    assert set(ran.statuses().values()) == {"completed"}


def test_with_scarce_slots_the_urgent_go_first(worker: WorkerThread, settings: Settings, tmp_path: Path) -> None:
    settings.APFLOW = replace(settings.APFLOW, worker=replace(settings.APFLOW.worker, max_tasks=1))
    effects = tmp_path / "effects"
    children = [
        step(f"p{priority}{letter}", priority=priority, inputs={"effects": str(effects)})
        for letter, priority in zip("abcdefgh", [3, 2, 1, 0, 0, 1, 2, 3], strict=True)
    ]
    run_tree(WorkerThread(), group("g", *children))
    started = [line.split()[1] for line in effects.read_text().splitlines() if line.startswith("start")]
    assert started == ["p0d", "p0e", "p1c", "p1f", "p2b", "p2g", "p3a", "p3h"]


# --- what models cost ---


@pytest.mark.both_engines
def test_what_the_attempts_used_is_added_up_and_kept_however_they_end(run: RunTree) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cost_usd": 0.25}
    free = {**usage, "cost_usd": None}
    twice = {"params": {"retry": {"max_attempts": 2, "backoff_seconds": 0}}}
    ran = run(
        group(
            "g",
            step("once", inputs={"spends": usage}),
            step("twice", inputs={"spends": usage, "fails_until_attempt": 2}, **twice),
            step("failed", inputs={"spends": free, "then": "fail"}),
            step("nothing"),
        )
    )
    used = {name: task.token_usage for name, task in ran.tasks.items()}
    total = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28, "cost_usd": 0.5}
    assert used == {"g": None, "once": usage, "twice": total, "failed": free, "nothing": None}


# --- inputs and results ---


def test_a_task_gets_its_inputs_and_the_results_of_its_dependencies(run: RunTree) -> None:
    first = {"id": "first", "name": "echo_executor", "inputs": {"city": "Ulm", "day": 1}}
    second = {
        "id": "second",
        "name": "echo_executor",
        "inputs": {"day": 2},
        "dependencies": ["first"],
        "schemas": {"input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "day": {}}}},
    }
    ran = run(group("g", first, second))
    assert ran.tasks["second"].result == {"day": 2, "city": "Ulm", "first": {"city": "Ulm", "day": 1}}
    assert ran.tasks["second"].inputs == {"day": 2}  # never rewritten by a run


def test_inputs_whose_validation_may_take_long_are_validated_in_a_process_with_a_limit(worker: WorkerThread) -> None:
    recursive = {"properties": {"below": {"$ref": "#"}, "depth": {"type": "integer"}}}
    schemas = {"method": "scripted_executor", "input_schema": recursive}
    tasks = [
        step("fits", inputs={"below": {"below": {"depth": 2}}}, schemas=schemas),
        step("does not", inputs={"below": {"below": {"depth": "two"}}}, schemas=schemas),
        step("is too long", schemas=schemas),
    ]
    execution = trees.execute_tree(caller=LOCAL, tasks=group("g", *tasks))
    endless = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(50)} | {"a50": {}}
    stored_before_there_were_limits = {**schemas, "input_schema": {"$ref": "#/$defs/a0", "$defs": endless}}
    Task.objects.filter(id=execution.ids["is too long"]).update(schemas=stored_before_there_were_limits)
    worker.work()
    ran = result_of(execution.run, ids=execution.ids).tasks
    assert (ran["fits"].status, ran["does not"].status, ran["is too long"].status) == ("completed", "failed", "failed")
    assert 'input schema: below.below.depth: the value is not of type "integer"' in (ran["does not"].error or "")
    assert "takes too long: it was stopped after 2 s of processor time" in (ran["is too long"].error or "")


def test_a_group_completes_with_its_resolved_inputs(run: RunTree) -> None:
    ran = run([{"id": "task1", "name": "my_task", "user_id": "user123", "inputs": {"key": "value"}}])
    assert (ran.tasks["task1"].status, ran.tasks["task1"].result) == ("completed", {"key": "value"})


@pytest.mark.parametrize("where", ["of the executor", "of the task"])
def test_inputs_that_do_not_fit_a_schema_fail_the_task_before_it_runs(run: RunTree, tmp_path: Path, where: str) -> None:
    effects = str(tmp_path / "effects")
    if where == "of the task":
        schema = {"type": "object", "required": ["city"]}
        tasks = [
            step("a", inputs={"effects": effects}, schemas={"method": "scripted_executor", "input_schema": schema})
        ]
    else:
        inputs = {"effects": effects, "seconds": "{{found.seconds}}"}
        found = {"id": "found", "name": "echo_executor", "parent_id": "a", "inputs": {"seconds": "many"}}
        tasks = [step("a", inputs=inputs, dependencies=["found"]), found]
    ran = run(tasks)
    assert ran.tasks["a"].status == "failed"
    assert "do not match the input schema" in (ran.tasks["a"].error or "")
    assert not Path(effects).exists()


def test_inputs_that_do_not_fit_are_corrected_as_the_error_says(worker: WorkerThread) -> None:
    schemas = {"method": "scripted_executor", "input_schema": {"properties": {"city": {"type": "string"}}}}
    failed = run_tree(worker, [step("a", inputs={"city": 5}, schemas=schemas)]).tasks["a"]
    assert "Correct the inputs and run the tree from this task: tasks.fork" in (failed.error or "")
    copy = copy_tree(caller=LOCAL, task_id=failed.id).root
    update_task(caller=LOCAL, task_id=copy.id, changes={"inputs": {"city": "Lisbon"}})
    again = trees.execute_task(caller=LOCAL, task_id=copy.id)
    worker.work()
    assert result_of(again.run).tasks[copy.id].status == "completed"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nan", "NaN"),
        pytest.param("nul", "NUL", marks=pytest.mark.both_engines),
        ("set", "not a JSON value"),
        ("huge", "limits.result_bytes"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_its_task_alone(
    run: RunTree, settings: Settings, kind: str, says: str
) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, value_bytes=2**20))
    ran = run(group("g", step("odd", inputs={"then": kind}), step("good")))
    assert ran.statuses() == {"g": "completed", "odd": "failed", "good": "completed"}
    assert says in (ran.tasks["odd"].error or "")
    assert ran.tasks["odd"].result is None


# --- failure ---


@pytest.mark.both_engines
def test_a_failure_fails_what_required_it_and_nothing_else(run: RunTree) -> None:
    ran = run(
        group(
            "g",
            step("bad", inputs={"then": "fail"}),
            step("needs", dependencies=["bad"]),
            step("needs too", dependencies=["needs"]),
            step("would like", dependencies=[{"id": "bad", "required": False}]),
            step("apart"),
        )
    )
    assert ran.statuses() == {
        "g": "completed",
        "bad": "failed",
        "needs": "failed",
        "needs too": "failed",
        "would like": "completed",
        "apart": "completed",
    }
    assert ran.run.status == "failed"
    assert ran.tasks["needs"].error == "Not run: required dependency 'bad' failed"
    assert ran.tasks["needs"].started_at is None
    assert ran.tasks["needs too"].error == "Not run: required dependency 'needs' failed"
    assert {id_: task.cause_id for id_, task in ran.tasks.items() if task.cause_id} == {
        "needs": "bad",
        "needs too": "bad",
    }
    unrun = {event["task_id"]: (event["not_run"], event["cause_id"]) for event in ran.events if "not_run" in event}
    assert unrun == {"needs": (True, "bad"), "needs too": (True, "bad")}
    assert sorted(ran.order("task_start")) == ["apart", "bad", "g", "would like"]


def test_what_an_executor_raises_goes_to_the_log_and_not_to_the_client(
    run: RunTree, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="tasks"):
        ran = run([step("a", inputs={"then": "raise"})])
    told = f"{ran.events} {ran.tasks['a'].error}"
    assert SECRET not in told
    assert "RuntimeError" in told
    error_id = (ran.tasks["a"].error or "").rstrip(".").rpartition(" ")[2]
    assert error_id in caplog.text
    assert "the key is sk-…" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("ending", ["stop", "cancel"])
def test_an_executor_that_stops_uninvited_has_failed(run: RunTree, ending: str) -> None:
    ran = run([step("a", inputs={"then": ending})])
    assert ran.statuses() == {"a": "failed"}
    assert "raised " in (ran.tasks["a"].error or "")


def test_an_executor_that_ends_the_process_has_failed_alone(worker: WorkerThread, settings: Settings) -> None:
    settings.APFLOW_EXECUTOR_MODULES = (EXECUTORS, __name__)
    forget_registry()
    ran = run_tree(worker, group("g", {"id": "leaves", "name": "leaving_executor"}, step("beside")))
    assert ran.statuses() == {"g": "completed", "leaves": "failed", "beside": "completed"}
    assert "Executor 'leaving_executor' raised SystemExit." in (ran.tasks["leaves"].error or "")


def test_a_timeout_stops_the_work(run: RunTree, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    ran = run([step("a", inputs={"seconds": 30, "effects": str(effects)}, params={"timeout_seconds": 1})])
    assert ran.tasks["a"].error == "Timed out after 1 s (params.timeout_seconds)."
    assert effects.read_text() == "start a\ncancel a\n"


@pytest.mark.parametrize(
    ("inputs", "seconds"), [({}, 60), ({"timeout_seconds": 90}, 60), ({"timeout_seconds": 30}, 30)]
)
def test_a_question_waits_no_longer_than_its_task_may_take(worker: WorkerThread, inputs: Json, seconds: int) -> None:
    trees.execute_tree(caller=LOCAL, tasks=[ask(inputs=inputs, timeout_seconds=60)])
    worker.work()
    question = Question.objects.get()
    assert question.expires_at is not None
    assert seconds - 25 < (question.expires_at - question.asked_at).total_seconds() < seconds + 5


def test_a_timeout_ends_the_wait_for_an_answer(worker: WorkerThread, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    beside = step("beside", inputs={"gate": str(gate)})
    tree = group("g", ask(inputs={}, timeout_seconds=0.2), beside)
    started = trees.execute_tree(caller=LOCAL, tasks=tree).run
    working = threading.Thread(target=worker.work)
    working.start()
    until(lambda: Task.objects.get(id="ask").status == "failed", seconds=60, what="the end of the wait")
    gate.touch()
    working.join()
    ran = result_of(started)
    assert ran.statuses() == {"g": "completed", "ask": "failed", "beside": "completed"}
    assert ran.tasks["ask"].error == "Not answered in time: Publish it?"


def ask(*, inputs: Json, timeout_seconds: float) -> Json:
    params = {"timeout_seconds": timeout_seconds}
    return {"id": "ask", "name": "approval_executor", "inputs": {"question": "Publish it?"} | inputs, "params": params}


RETRY = {"max_attempts": 3, "backoff_seconds": 0.01}


@pytest.mark.parametrize(
    ("inputs", "status", "attempts"),
    [
        pytest.param({"fails_until_attempt": 3}, "completed", 3, marks=pytest.mark.both_engines),
        ({"fails_until_attempt": 9}, "failed", 3),
        ({"then": "raise"}, "failed", 3),
        ({"then": "fail"}, "failed", 1),  # permanent: trying again cannot help
        ({}, "completed", 1),
    ],
)
def test_a_task_is_tried_as_often_as_it_says(run: RunTree, inputs: Json, status: str, attempts: int) -> None:
    ran = run([step("a", inputs=inputs, params={"retry": RETRY})])
    assert (ran.tasks["a"].status, ran.tasks["a"].attempt) == (status, attempts)
    assert ran.order("task_retry") == ["a"] * (attempts - 1)


def test_without_a_word_a_task_is_tried_once(run: RunTree) -> None:
    assert run([step("a", inputs={"fails_until_attempt": 2})]).tasks["a"].attempt == 1


@pytest.mark.both_engines
@pytest.mark.parametrize("how", ["error", "report", "log"])
def test_text_that_is_no_text_harms_nobody(run: RunTree, how: str) -> None:
    """A lone surrogate, as a file name may hold one, has no UTF-8; a NUL has no place in PostgreSQL."""
    ran = run(
        group(
            "g",
            step("odd", inputs={"says": "\0 \udcff".encode("utf-8", "surrogatepass").hex(), "how": how}),
            step("good"),
        )
    )
    assert ran.statuses() == {"g": "completed", "odd": "failed" if how == "error" else "completed", "good": "completed"}
    assert run([step("next")]).run.status == "completed"


@pytest.mark.both_engines
def test_a_progress_that_is_no_number_harms_nobody(run: RunTree) -> None:
    ran = run(group("g", step("odd", inputs={"how": "nan"}), step("good")))
    assert set(ran.statuses().values()) == {"completed"}
    assert all(math.isfinite(event["progress"]) for event in ran.events)


# --- events ---


@pytest.mark.both_engines
def test_events_are_dense_and_tell_everything_once(run: RunTree) -> None:
    ran = run(group("g", step("a", inputs={"seconds": 0.01, "steps": 4}), step("b", dependencies=["a"])))
    assert [event["seq"] for event in ran.events] == list(range(1, len(ran.events) + 1))
    assert ran.order("progress") == ["a"] * 4
    assert ran.order("final") == ["g"]
    assert {event["run_id"] for event in ran.events} == {ran.run.id}
    assert {event["root_task_id"] for event in ran.events} == {ran.run.root_id}
    assert ran.run.last_seq == len(ran.events)
    final = ran.events[-1]
    assert (final["type"], final["status"], final["tree_progress"], final["result"]) == ("final", "completed", 1.0, {})


@pytest.mark.both_engines
def test_progress_grows_to_the_end(run: RunTree) -> None:
    ran = run(group("g", *(step(f"s{n}", inputs={"seconds": 0.01, "steps": 5}) for n in range(3))))
    tree = [event["tree_progress"] for event in ran.events]
    assert all(earlier <= later for earlier, later in pairwise(tree))
    assert [event["progress"] for event in ran.events if event["task_id"] == "s0" and event["type"] == "progress"] == [
        0.2, 0.4, 0.6, 0.8, 1.0,
    ]  # fmt: skip


# --- again, after a crash or by request ---


def _as_after_a_crash(tasks: list[Json], **fields: Any) -> Run:
    """A run whose worker was killed: the task `a` is still in progress."""
    execution = trees.execute_tree(caller=LOCAL, tasks=tasks)
    Task.objects.filter(id="a").update(status="in_progress", attempt=1, **fields)
    return execution.run


@pytest.mark.both_engines
def test_after_a_crash_what_may_be_repeated_runs_again(worker: WorkerThread) -> None:
    run = _as_after_a_crash(group("g", step("a"), step("b", dependencies=["a"])))
    worker.work()
    ran = result_of(run)
    assert set(ran.statuses().values()) == {"completed"}
    assert ran.tasks["a"].attempt == 1, "the crash was not its failure"


@pytest.mark.parametrize(("method", "is_repeated"), [("GET", True), ("PUT", True), ("POST", False), ("{{b}}", False)])
def test_after_a_crash_a_request_that_may_be_repeated_is_sent_again(
    worker: WorkerThread, method: str, is_repeated: bool
) -> None:
    request = {"inputs": {"url": "http://localhost:1/", "method": method}, "schemas": {"method": "rest_executor"}}
    run = _as_after_a_crash(group("g", step("a", dependencies=["b"]) | request, step("b")))
    Task.objects.filter(id="b").update(status="completed", result="GET")
    worker.work()
    error = result_of(run).tasks["a"].error or ""
    assert error.startswith("Interrupted") is not is_repeated, error


def test_a_crash_uses_up_no_attempt(worker: WorkerThread) -> None:
    retry = RETRY | {"max_attempts": 2}
    run = _as_after_a_crash([step("a", inputs={"fails_until_attempt": 2}, params={"retry": retry})])
    worker.work()
    assert result_of(run).statuses() == {"a": "completed"}


@pytest.mark.parametrize("idempotent", [pytest.param(True, marks=pytest.mark.both_engines), False])
def test_a_crash_between_two_attempts_interrupts_none(worker: WorkerThread, idempotent: bool) -> None:
    method = "scripted_executor" if idempotent else "fragile_executor"
    task = step("a", inputs={"fails_until_attempt": 2}, params={"retry": RETRY | {"max_attempts": 2}})
    run = _as_after_a_crash([task | {"schemas": {"method": method}}], error="The first attempt failed.")
    worker.work()
    task_after = result_of(run).tasks["a"]
    assert (task_after.status, task_after.attempt, task_after.error) == ("completed", 2, None)


@pytest.mark.parametrize("retry", [pytest.param({}, marks=pytest.mark.both_engines), {"retry": RETRY}])
def test_after_a_crash_what_may_not_be_repeated_fails(worker: WorkerThread, tmp_path: Path, retry: Json) -> None:
    effects = tmp_path / "effects"
    fragile = step("a", inputs={"effects": str(effects)}, params=retry) | {"schemas": {"method": "fragile_executor"}}
    run = _as_after_a_crash([fragile])
    worker.work()
    task = result_of(run).tasks["a"]
    assert task.status == "failed"
    assert "Interrupted" in (task.error or "")
    assert not effects.exists()


@pytest.mark.both_engines
def test_executed_again_what_completed_keeps_its_result_and_what_failed_runs(
    worker: WorkerThread, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    noted = {"effects": str(effects)}
    first = run_tree(worker, group("g", step("good", inputs=noted), step("bad", inputs={**noted, "then": "fail"})))
    assert first.statuses() == {"g": "completed", "good": "completed", "bad": "failed"}
    Task.objects.filter(id="bad").update(inputs=noted)
    again = trees.execute_task(caller=LOCAL, task_id="g")
    worker.work()
    ran = result_of(again.run)
    assert set(ran.statuses().values()) == {"completed"}
    assert ran.order("task_start") == ["bad"]
    assert (ran.run.number, ran.run.status) == (2, "completed")
    assert effects.read_text().count("start good") == 1


@pytest.mark.both_engines
def test_a_task_that_is_no_root_runs_with_what_it_needs(worker: WorkerThread) -> None:
    tasks = group("g", step("a"), step("b", dependencies=["a"]), step("below", parent_id="b"), step("other"))
    trees.create_tree(caller=LOCAL, tasks=tasks)
    execution = trees.execute_task(caller=LOCAL, task_id="b")
    worker.work()
    ran = result_of(execution.run)
    assert {name for name, status in ran.statuses().items() if status == "completed"} == {"a", "b", "below"}
    assert {ran.tasks[name].status for name in ("g", "other")} == {"pending"}
    assert ran.events[-1]["task_id"] == "b"


@pytest.mark.both_engines
def test_a_big_tree_completes(run: RunTree) -> None:
    leaves = [{"id": f"leaf{number}", "name": "echo_executor", "parent_id": "join"} for number in range(1_000)]
    join = {"id": "join", "name": "aggregate_results_executor", "dependencies": [leaf["id"] for leaf in leaves]}
    ran = run([join, *leaves])
    assert set(ran.statuses().values()) == {"completed"}
    assert len(ran.events) == 2 * 1_001 + 1


# --- the network ---


def test_a_request_of_an_executor_is_guarded(run: RunTree) -> None:
    ran = run([step("one", schemas={"method": "fetching_executor"}, inputs={"url": "http://127.0.0.1:1/"})])
    assert ran.statuses() == {"one": "failed"}
    assert "The host '127.0.0.1' is refused: its address 127.0.0.1 is not public." in str(ran.tasks["one"].error)
