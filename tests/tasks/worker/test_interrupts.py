"""What a crash interrupts: what had not begun is repeated, and about the rest the task, or a person, decides."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from pytest_django import Settings
from websockets.http11 import Request
from websockets.sync.server import ServerConnection, serve

from accounts.callers import LOCAL
from tasks.executors.websocket import executor
from tasks.models import Question, Run, Task, WorkerProcess
from tasks.queue import black_box, leases
from tasks.queue.black_box import End
from tasks.queue.leases import SUSPENDED
from tasks.rules.interrupts import INTERRUPTED, error_of
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.waits import questions
from tests.tasks.lives import Fuse, Life, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, group, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


def fragile(name: str = "a", method: str = "fragile_executor", **fields: Any) -> Json:
    return step(name, **fields) | {"schemas": {"method": method}}


def crashed(tasks: list[Json], **fields: Any) -> Run:
    """A run whose worker was killed: the task `a` is still in progress."""
    run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
    Task.objects.filter(id="a").update(status="in_progress", attempt=1, **fields)
    return run


def taken_up(worker: WorkerThread, tasks: list[Json], **fields: Any) -> Ran:
    run = crashed(tasks, **fields)
    worker.work()
    return result_of(run)


def answered(worker: WorkerThread, run: Run, answer: str, comment: str | None = None) -> Ran:
    questions.answer(caller=LOCAL, task_id="a", answer=answer, comment=comment)
    worker.work()
    return result_of(run)


@pytest.mark.both_engines
def test_what_had_provably_not_begun_is_repeated(worker: WorkerThread) -> None:
    task = taken_up(worker, [fragile()], effect="awaited").tasks["a"]
    assert (task.status, task.attempt) == ("completed", 1)


@pytest.mark.parametrize(
    ("says", "method", "end"),
    [
        ({}, "fragile_executor", "failed"),
        ({"params": {"on_interrupt": "fail"}}, "fragile_executor", "failed"),
        ({"params": {"on_interrupt": "repeat"}}, "fragile_executor", "completed"),
        ({}, "looking_executor", "completed"),
        ({"params": {"on_interrupt": "fail"}}, "scripted_executor", "completed"),
    ],
)
def test_a_task_says_what_happens_if_it_had_begun(worker: WorkerThread, says: Json, method: str, end: str) -> None:
    task = taken_up(worker, [fragile(method=method, **says)], effect="begun").tasks["a"]
    assert (task.status, task.error) == (end, error_of("") if end == "failed" else None)


ELSEWHERE = "another-machine/1/1.00"
DEAD = f"{leases.this_host()}/99999999/1.00"


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("owner", "how", "says"),
    [
        (ELSEWHERE, "expired", "the worker lost its lease during the task, since the database did not answer it, or"),
        (ELSEWHERE, "released", "the worker was stopped during the task, and"),
        (DEAD, "swept", "the worker died during the task, with its whole server or machine, and"),
        (DEAD, "recorded", "the worker died during the task, and"),
    ],
)
def test_the_error_says_how_the_worker_was_lost(worker: WorkerThread, owner: str, how: str, says: str) -> None:
    run = crashed([fragile()], effect="begun")
    assert len(leases.claim(owner=owner, limit=1)) == 1
    if how == "expired":
        Run.objects.filter(id=run.id).update(lease_expires_at=Now() - timedelta(seconds=1))
    if how == "recorded":
        leases.beat(process_id=owner, cluster_id="c")
        WorkerProcess.objects.update(supervisor=leases.process_name())
        black_box.record_end(owner, End(exit_code=-9))
    if how == "released":
        leases.release(owner=owner)
    else:
        leases.sweep()
    worker.work()
    leases.discard_boxes()
    assert (result_of(run).tasks["a"].error or "").startswith(f"Interrupted: {says} ")


@pytest.mark.parametrize(("own", "end"), [({}, "completed"), ({"params": {"on_interrupt": "fail"}}, "failed")])
def test_a_task_without_a_word_follows_the_nearest_task_above_it(worker: WorkerThread, own: Json, end: str) -> None:
    root, *below = group("flow", {"id": "part", "name": "part"}, fragile(**own) | {"parent_id": "part"})
    tasks = [root | {"params": {"on_interrupt": "repeat"}}, *below]
    assert taken_up(worker, tasks, effect="begun").tasks["a"].status == end


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("answer", "end"),
    [("repeat", ("completed", None)), ("done", ("completed", "It went out.")), ("fail", ("failed", None))],
)
def test_a_person_decides(worker: WorkerThread, answer: str, end: tuple[str, Any]) -> None:
    run = crashed([fragile(params={"on_interrupt": "ask"})], effect="begun")
    worker.work()
    question = Question.objects.get(task_id="a")
    assert question.options == ["repeat", "done", "fail"]
    assert "'a' was interrupted: the worker was lost during the task, and it is not known" in question.text
    ran = answered(worker, run, answer, "It went out.")
    task = ran.tasks["a"]
    assert (task.status, task.result if answer == "done" else None, task.attempt) == (*end, 1)
    assert (task.error or "").startswith("Interrupted") is (answer == "fail")
    assert "task_start" not in [event["type"] for event in ran.events]


@pytest.mark.both_engines
def test_what_is_repeated_after_an_answer_is_asked_about_again_after_another_crash(worker: WorkerThread) -> None:
    run = crashed([fragile(params={"on_interrupt": "ask"})], effect="begun")
    worker.work()
    assert Task.objects.get(id="a").effect == "awaited"
    questions.answer(caller=LOCAL, task_id="a", answer="repeat")
    Task.objects.filter(id="a").update(effect="begun")  # as by a worker that died then
    worker.work()
    assert Question.objects.filter(task_id="a").count() == 2
    assert answered(worker, run, "repeat").tasks["a"].status == "completed"


def test_a_cancelled_task_is_not_asked_about(worker: WorkerThread) -> None:
    run = crashed([fragile(params={"on_interrupt": "ask"})], effect="begun")
    worker.work()
    assert Question.objects.get(task_id="a").closed_at is None
    asyncio.run(cancels.cancel_tasks(caller=LOCAL, task_ids=["a"], force=False))
    worker.work()
    assert result_of(run).tasks["a"].status == "cancelled"


# --- a worker that dies at any moment ---


def acted(*lives: Life) -> list[str]:
    """The tasks whose effect there was, as often as there was one."""
    return [task_id for life in lives for _, task_id in life.executed]


def deaths(stage: Stage, tasks: list[Json], fuse: Fuse) -> Ran:
    run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
    stage.die_and_take_over(fuse)
    return result_of(run)


@at_any_moment(7, both_engines=(1, 2, 3, 4))
def test_an_effect_comes_once_and_is_lost_only_if_its_beginning_was_stored(
    stage: Stage, items: int, after: bool
) -> None:
    tasks = group("g", *(step(name, inputs={"script": "ok"}) for name in ("a", "b")))
    tasks = [task if task["id"] == "g" else task | {"schemas": {"method": "fragile_script_executor"}} for task in tasks]
    ran = deaths(stage, tasks, Fuse(items=items, after=after))
    effects = acted(*stage._lives)
    assert sorted(effects) == sorted(set(effects))
    for name in ("a", "b"):
        task = ran.tasks[name]
        assert task.status == "completed" or (INTERRUPTED in (task.error or ""), task.effect) == (True, "begun")
        assert name in effects or task.effect == "begun"


def test_a_task_that_only_waits_for_its_connection_is_not_interrupted(
    stage: Stage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "CONNECT_TIMEOUT_SECONDS", 60.0)
    settings.APFLOW_ALLOW_PRIVATE = ("127.0.0.1",)
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)
    may_open, received = threading.Event(), list[str | bytes]()

    def echo(opened: ServerConnection) -> None:
        for message in opened:
            received.append(message)
            opened.send(message)

    def hold(opened: ServerConnection, request: Request) -> None:
        may_open.wait(60)

    with serve(echo, "127.0.0.1", 0, process_request=hold) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        inputs = {"url": f"ws://127.0.0.1:{server.socket.getsockname()[1]}/", "message": "once", "timeout_seconds": 60}
        task = {"id": "a", "name": "a", "schemas": {"method": "websocket_executor"}, "inputs": inputs}
        run = trees.execute_tree(caller=LOCAL, tasks=[task]).run
        first = stage.bear()
        first.wake()
        stage.until_nothing(lambda: not Task.objects.filter(status="in_progress"))
        first.kill()
        may_open.set()
        stage.take_over()
        server.shutdown()
        serving.join()
    assert (result_of(run).tasks["a"].status, received) == ("completed", ["once"])


@at_any_moment(7, both_engines=(4, 5))
def test_what_a_task_does_after_its_question_comes_once(stage: Stage, items: int, after: bool) -> None:
    task = {
        "id": "a",
        "name": "a",
        "schemas": {"method": "asks_first_executor"},
    }
    run = trees.execute_tree(caller=LOCAL, tasks=[task]).run
    stage.bear().wake()
    stage.until_nothing(lambda: Run.objects.exclude(lease_owner=SUSPENDED))
    stage.clear()
    questions.answer(caller=LOCAL, task_id="a", answer="yes")
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run).tasks["a"]
    effects = acted(*stage._lives)
    assert ended.status == "completed" or INTERRUPTED in (ended.error or "")
    assert len(effects) <= 1
    assert effects or ended.effect == "begun"
