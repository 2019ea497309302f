"""Questions of tasks: parked without a worker, answered once, back in time, whatever dies in between."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from django.test import Client

from accounts.callers import LOCAL
from tasks.dashboard.answer_tokens import link_to
from tasks.models import CancelRequest, Question, Run, Task
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.rules.exceptions import InvalidParams, StatusConflict, TaskNotFound
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees.editing import delete_task
from tasks.services.waits import questions
from tasks.services.waits.questions import answer, open_questions
from tests.servers import until
from tests.tasks.trees import ADMIN, ALICE, BOB
from tests.workers import Json, WorkerThread, group, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


def asking(name: str = "ask", **fields: Any) -> Json:
    inputs = {"question": "Publish it?", "options": ["yes", "no"]} | fields.pop("inputs", {})
    return {"id": name, "name": name, "schemas": {"method": "approval_executor"}, "inputs": inputs, **fields}


def asks_for_more(**inputs: Any) -> Json:
    """It notes with its question how often it has asked."""
    return {"id": "more", "name": "asking_executor", "inputs": {"until": "enough"} | inputs}


def start(*tasks: Json) -> Run:
    return trees.execute_tree(caller=LOCAL, tasks=list(tasks)).run


def parked(worker: WorkerThread, *tasks: Json) -> Run:
    """A run that waits for answers only."""
    run = start(*tasks)
    worker.work()
    run.refresh_from_db()
    assert (run.lease_owner, run.finished_at) == (SUSPENDED, None)
    return run


def in_background(worker: WorkerThread) -> threading.Thread:
    thread = threading.Thread(target=worker.work)
    thread.start()
    return thread


def messages(run: Run) -> list[str]:
    return [event["message"] for event in result_of(run).events if event["type"] == "log"]


@pytest.mark.both_engines
def test_what_a_task_used_before_its_questions_is_part_of_its_token_usage(worker: WorkerThread) -> None:
    spends = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "cost_usd": 0.25}
    run = parked(worker, asks_for_more(spends=spends))
    assert Task.objects.get(id="more").token_usage == spends
    for said in ("more", "enough"):
        answer(caller=LOCAL, task_id="more", answer=said)
        worker.work()
    run.refresh_from_db()
    expected = {"prompt_tokens": 6, "completion_tokens": 9, "total_tokens": 15, "cost_usd": 0.75}
    assert (run.status, run.token_usage) == ("completed", expected)
    assert Task.objects.get(id="more").token_usage == expected


@pytest.mark.both_engines
def test_a_question_parks_the_run_and_an_answer_brings_it_back(worker: WorkerThread) -> None:
    tree = group("root", asking(), step("after", dependencies=["ask"]))
    run = parked(worker, *tree)
    assert result_of(run).statuses() == {"root": "pending", "ask": "in_progress", "after": "pending"}
    assert messages(run) == ["waiting for an answer: Publish it?"]
    (question,) = open_questions(LOCAL)
    assert (question.task_id, question.text, question.options) == ("ask", "Publish it?", ["yes", "no"])
    answer(caller=LOCAL, task_id="ask", answer="yes", comment="Well done")
    worker.work()
    ran = result_of(run)
    assert ran.run.status == "completed"
    assert ran.tasks["ask"].result == {"answer": "yes", "by": "local", "comment": "Well done"}
    assert ran.tasks["after"].result["inputs"]["ask"]["answer"] == "yes"
    assert open_questions(LOCAL) == []
    assert [event["seq"] for event in ran.events] == list(range(1, len(ran.events) + 1))


def test_it_is_one_attempt_however_long_it_takes(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    answer(caller=LOCAL, task_id="ask", answer="no")
    worker.work()
    ran = result_of(run)
    assert ran.tasks["ask"].attempt == 1
    assert [event["type"] for event in ran.events] == ["task_start", "log", "task_completed", "final"]
    assert (ran.run.losses, ran.run.lease_owner) == (0, None)


@pytest.mark.both_engines
def test_nobody_claims_a_parked_run(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    leases.sweep()
    suspension.sweep()
    assert leases.claim(owner="another/1/1", limit=10) == []
    run.refresh_from_db()
    assert (run.lease_owner, run.epoch) == (SUSPENDED, 2)


def test_other_branches_go_on_while_one_waits(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", asking(), step("beside", inputs={"seconds": 0.2})))
    assert result_of(run).statuses()["beside"] == "completed"


@pytest.mark.both_engines
def test_an_answer_counts_at_once_while_another_branch_is_at_work(worker: WorkerThread, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = step("slow", inputs={"gate": str(gate)})
    run = start(*group("root", asking(), slow, step("after", dependencies=["ask"])))
    working = in_background(worker)
    until(lambda: open_questions(LOCAL), seconds=60, what="the question")
    answer(caller=LOCAL, task_id="ask", answer="yes")
    until(lambda: Task.objects.get(id="after").status == "completed", seconds=60, what="the task after the answer")
    assert Task.objects.get(id="slow").status == "in_progress"
    gate.touch()
    working.join()
    assert result_of(run).run.status == "completed"
    assert result_of(run).run.epoch == 1  # it was never let go


def test_several_questions_are_answered_in_any_order(worker: WorkerThread) -> None:
    names = ["a", "b", "c"]
    run = parked(worker, *group("root", *(asking(name) for name in names)))
    for name in reversed(names):
        answer(caller=LOCAL, task_id=name, answer="yes")
        worker.work()
    assert set(result_of(run).statuses().values()) == {"completed"}


@pytest.mark.both_engines
def test_without_options_any_answer_counts(worker: WorkerThread) -> None:
    task = asking()
    del task["inputs"]["options"]
    run = parked(worker, task)
    answer(caller=LOCAL, task_id="ask", answer={"price": [1, 2.5, None]})
    worker.work()
    assert result_of(run).tasks["ask"].result == {"answer": {"price": [1, 2.5, None]}, "by": "local"}


def test_an_answer_that_was_not_offered_is_refused(worker: WorkerThread) -> None:
    parked(worker, asking())
    with pytest.raises(InvalidParams, match="answer: must be one of the options 'yes', 'no'"):
        answer(caller=LOCAL, task_id="ask", answer="perhaps")
    assert len(open_questions(LOCAL)) == 1


def test_what_does_not_wait_takes_no_answer(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    answer(caller=LOCAL, task_id="ask", answer="yes")
    with pytest.raises(StatusConflict):
        answer(caller=LOCAL, task_id="ask", answer="no")
    worker.work()
    with pytest.raises(StatusConflict, match="it is completed"):
        answer(caller=LOCAL, task_id="ask", answer="no")
    assert result_of(run).tasks["ask"].result["answer"] == "yes"


@pytest.mark.both_engines
def test_only_who_sees_the_task_may_answer_and_see_the_question(worker: WorkerThread) -> None:
    execution = trees.execute_tree(caller=ALICE, tasks=[asking()])
    worker.work()
    for task_id in ("ask", "missing"):
        with pytest.raises(TaskNotFound) as caught:
            answer(caller=BOB, task_id=task_id, answer="yes")
        assert caught.value.message == str(TaskNotFound(task_id))
    assert open_questions(BOB) == []
    assert [question.task_id for question in open_questions(ALICE)] == ["ask"]
    assert [question.task_id for question in open_questions(ADMIN, run_ids=[execution.run.id])] == ["ask"]
    assert open_questions(ADMIN, run_ids=["another"]) == []
    assert answer(caller=ADMIN, task_id="ask", answer="yes").answered_by == ADMIN.user_id


@pytest.mark.both_engines
def test_of_two_answers_at_once_one_counts(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    start_together = threading.Barrier(2)
    won: list[str] = []

    def give(text: str) -> None:
        start_together.wait()
        try:
            answer(caller=LOCAL, task_id="ask", answer=text)
            won.append(text)
        except StatusConflict:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=give, args=[text]) for text in ("yes", "no")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.work()
    assert len(won) == 1
    assert result_of(run).tasks["ask"].result["answer"] == won[0]


# --- the wait ends otherwise ---


def test_too_late_is_a_failure_that_says_so(worker: WorkerThread, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    beside = step("beside", inputs={"gate": str(gate)})
    run = start(*group("root", asking(inputs={"timeout_seconds": 0.2}), beside))
    working = in_background(worker)
    until(lambda: Task.objects.get(id="ask").status == "failed", seconds=60, what="the end of the wait")
    gate.touch()
    working.join()
    ran = result_of(run)
    assert ran.tasks["ask"].error == "Not answered in time: Publish it?"
    assert ran.statuses() == {"root": "completed", "ask": "failed", "beside": "completed"}
    assert Question.objects.get().closed_at is not None


@pytest.mark.both_engines
def test_a_parked_run_comes_back_when_the_time_is_over(worker: WorkerThread) -> None:
    run = parked(worker, asking(inputs={"timeout_seconds": 600}))
    assert run.lease_expires_at is not None
    assert timedelta(seconds=550) < run.lease_expires_at - datetime.now(UTC) < timedelta(seconds=601)
    past = datetime.now(UTC) - timedelta(seconds=1)
    Question.objects.update(expires_at=past)
    Run.objects.update(lease_expires_at=past)
    with pytest.raises(StatusConflict):
        answer(caller=LOCAL, task_id="ask", answer="yes")
    suspension.resume_due()
    worker.work()
    assert result_of(run).statuses() == {"ask": "failed"}
    assert result_of(run).run.losses == 0


def test_an_answer_in_time_counts_though_it_is_read_late(worker: WorkerThread) -> None:
    run = parked(worker, asking(inputs={"timeout_seconds": 600}))
    answer(caller=LOCAL, task_id="ask", answer="yes")
    Question.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    worker.work()
    assert result_of(run).statuses() == {"ask": "completed"}


@pytest.mark.parametrize("what", ["ask", pytest.param("root", marks=pytest.mark.both_engines)])
def test_a_cancellation_ends_the_wait(worker: WorkerThread, what: str) -> None:
    run = parked(worker, *group("root", asking()))
    asked = cancels.ask(caller=LOCAL, task_ids=[what], force=False, message="Never mind")
    worker.work()
    assert [reply["status"] for reply in cancels.answers(asked=asked)] == ["cancelled"]
    assert result_of(run).tasks["ask"].status == "cancelled"
    assert result_of(run).run.status == "cancelled"
    assert open_questions(LOCAL) == []
    with pytest.raises(StatusConflict, match="it is cancelled"):
        answer(caller=LOCAL, task_id="ask", answer="yes")


@pytest.mark.parametrize(
    ("leaves", "result", "says"),
    [
        pytest.param("at once", {"times": 1}, "", marks=pytest.mark.both_engines),
        ("in anger", None, "may still be running: The door is shut."),
        ("in pieces", None, "may still be running: Executor 'asking_executor' raised ZeroDivisionError."),
        ("never", None, "may still be running: no response within 2 s"),
    ],
)
def test_who_asked_hears_of_the_cancellation(worker: WorkerThread, leaves: str, result: Json | None, says: str) -> None:
    run = parked(worker, asks_for_more(leaves=leaves))
    cancels.ask(caller=LOCAL, task_ids=["more"], force=False, message="Never mind")
    worker.work()
    task = result_of(run).tasks["more"]
    assert (task.status, task.error, task.result) == ("cancelled", "Never mind", result)
    assert says in messages(run)[-1]
    assert open_questions(LOCAL) == []


def test_who_asked_hears_that_nobody_will_answer(worker: WorkerThread) -> None:
    run = parked(worker, asks_for_more(leaves="in anger"))
    past = datetime.now(UTC) - timedelta(seconds=1)
    Question.objects.update(expires_at=past)
    Run.objects.update(lease_expires_at=past)
    suspension.resume_due()
    worker.work()
    assert result_of(run).tasks["more"].error == "Not answered in time: What do you say?"
    assert (
        messages(run)[-1]
        == "Could not cancel the remote work of this task, which may still be running: The door is shut."
    )


def test_who_asked_hears_of_it_while_others_work(worker: WorkerThread) -> None:
    run = start(*group("root", asks_for_more(), step("slow", inputs={"seconds": 60})))
    working = in_background(worker)
    until(lambda: open_questions(LOCAL), seconds=60, what="the question")
    cancels.ask(caller=LOCAL, task_ids=["root"], force=False, message="Never mind")
    working.join()
    assert result_of(run).tasks["more"].result == {"times": 1}
    assert result_of(run).run.status == "cancelled"


@pytest.mark.both_engines
def test_who_was_answered_and_has_not_heard_of_it_is_cancelled_all_the_same(worker: WorkerThread) -> None:
    run = parked(worker, asks_for_more())
    answer(caller=LOCAL, task_id="more", answer="enough")
    cancels.ask(caller=LOCAL, task_ids=["more"], force=False, message="Never mind")
    worker.work()
    task = result_of(run).tasks["more"]
    assert (task.status, task.result) == ("cancelled", {"times": 1})


@pytest.mark.both_engines
def test_one_question_is_cancelled_and_the_other_still_waits(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", asking("a"), asking("b")))
    cancels.ask(caller=LOCAL, task_ids=["a"], force=False, message="Never mind")
    worker.work()
    run.refresh_from_db()
    assert run.lease_owner == SUSPENDED
    assert not CancelRequest.objects.exists()
    answer(caller=LOCAL, task_id="b", answer="yes")
    worker.work()
    assert result_of(run).statuses() == {"root": "completed", "a": "cancelled", "b": "completed"}


# --- nothing is lost ---


@pytest.mark.both_engines
def test_an_answer_that_nobody_was_told_of_is_found_by_the_next_sweep(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    Question.objects.update(answer="yes", answered_by="alice", answered_at=datetime.now(UTC))
    suspension.sweep()
    worker.work()
    assert result_of(run).tasks["ask"].result == {"answer": "yes", "by": "alice"}


@pytest.mark.both_engines
def test_a_cancellation_that_nobody_was_told_of_is_found_by_the_next_sweep(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    CancelRequest.objects.create(run_id=run.id, task_id="ask", message="Never mind")
    suspension.sweep()
    worker.work()
    assert result_of(run).statuses() == {"ask": "cancelled"}


@pytest.mark.both_engines
def test_a_run_is_not_parked_over_an_answer_or_a_cancellation(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    suspension.resume([run.id])
    (claim,) = leases.claim(owner="another/1/1", limit=1)
    CancelRequest.objects.create(run_id=run.id, task_id="ask", message="Never mind")
    assert suspension.suspend(claim, heard=[]) is False
    answer(caller=LOCAL, task_id="ask", answer="yes")
    assert suspension.suspend(claim, heard=[("ask", False)]) is False
    Question.objects.update(answered_at=None)
    assert suspension.suspend(claim, heard=[("ask", False)]) is True


@pytest.mark.both_engines
def test_a_cancellation_that_comes_while_its_run_is_suspended_is_kept(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL its transaction may commit between any two statements; here it comes before one that deletes."""
    run = parked(worker, asking())
    suspension.resume([run.id])
    (claim,) = leases.claim(owner="another/1/1", limit=1)
    CancelRequest.objects.create(run_id=run.id, task_id="ask", force=False, message="heard")
    delete = QuerySet.delete

    def delete_late(rows: Any) -> Any:
        CancelRequest.objects.create(run_id=run.id, task_id="ask", force=True, message="late")
        return delete(rows)

    monkeypatch.setattr(QuerySet, "delete", delete_late)
    assert suspension.suspend(claim, heard=[("ask", False)]) is True
    assert list(CancelRequest.objects.values_list("message", flat=True)) == ["late"]


@pytest.mark.both_engines
def test_a_question_is_asked_once_though_its_worker_died(worker: WorkerThread) -> None:
    run = parked(worker, asking())
    suspension.resume([run.id])
    worker.work()
    run.refresh_from_db()
    assert run.lease_owner == SUSPENDED
    assert Question.objects.count() == 1
    assert len(messages(run)) == 1


@pytest.mark.both_engines
def test_a_deleted_tree_takes_its_questions_with_it(worker: WorkerThread) -> None:
    of = parked(worker, asking())
    answer(caller=LOCAL, task_id="ask", answer="yes")
    worker.work()
    delete_task(caller=LOCAL, task_id="ask", force=True)
    assert not Question.objects.filter(run_id=of.id).exists()


@pytest.mark.both_engines
def test_an_executor_may_ask_again_and_gets_its_memo_back(worker: WorkerThread) -> None:
    task = {"id": "talk", "name": "talk", "schemas": {"method": "asking_executor"}, "inputs": {"until": "enough"}}
    run = parked(worker, task)
    for said in ("more", "even more", "enough"):
        answer(caller=LOCAL, task_id="talk", answer=said)
        worker.work()
    assert result_of(run).tasks["talk"].result == {"said": "enough", "times": 3}
    assert Question.objects.count() == 3
    assert questions.open_of([run.id]) == {}


@pytest.mark.both_engines
def test_the_link_of_a_disabled_user_answers_nothing(worker: WorkerThread, client: Client) -> None:
    client.defaults["HTTP_HOST"] = "localhost"
    user = User.objects.create_user("dora")
    run = parked(worker, asking())
    question = Question.objects.get(run=run)
    link = link_to(question, user_id="dora")
    assert client.get(link).status_code == 200
    user.is_active = False
    user.save()
    for response in (client.get(link), client.post(link, {"answer": "yes"})):
        assert response.status_code == 410
    question.refresh_from_db()
    assert question.answered_at is None
    assert client.post(link_to(question, user_id="of another issuer"), {"answer": "yes"}).status_code == 200
