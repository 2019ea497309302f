"""Reminders and escalations: at their time, once, without a worker meanwhile, and not after the answer."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from a2a.protocol.updates import update_of
from accounts.callers import Caller
from tasks.models import Assignee, Question, Run
from tasks.queue import suspension
from tasks.queue.leases import SUSPENDED
from tasks.rules.a2a_versions import INPUT_REQUIRED
from tasks.rules.exceptions import InvalidParams, RoleTooLow
from tasks.services import trees
from tasks.services.waits.questions import answer, inbox_of
from tests.tasks.trees import ALICE, BOB
from tests.workers import Json, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
CAROL = Caller(user_id="carol")


def ask(**inputs: Any) -> Json:
    return {"id": "ask", "name": "approval_executor", "inputs": {"question": "Publish it?"} | inputs}


def parked(worker: WorkerThread, **inputs: Any) -> Run:
    run = trees.execute_tree(caller=ALICE, tasks=[ask(**inputs)]).run
    worker.work()
    run.refresh_from_db()
    assert run.lease_owner == SUSPENDED
    return run


def pass_time(seconds: float) -> None:
    """As if so many seconds had passed."""
    past = timedelta(seconds=seconds)
    for question in Question.objects.filter(closed_at=None):
        question.asked_at -= past
        question.alarm_at = question.alarm_at and question.alarm_at - past
        question.expires_at = question.expires_at and question.expires_at - past
        alarms = [
            alarm | {"at": (datetime.fromisoformat(alarm["at"]) - past).isoformat()} for alarm in question.alarms or []
        ]
        question.alarms = alarms or None
        question.save()


def later(worker: WorkerThread, seconds: float) -> int:
    pass_time(seconds)
    woken = suspension.resume_due()
    worker.work()
    return woken


def said(run: Run) -> list[str]:
    return [event["message"] for event in result_of(run).events if event["type"] == "log"]


ASKED = "waiting for an answer: Publish it?"
REMINDED = "still waiting for an answer: Publish it?"


@pytest.mark.both_engines
def test_a_reminder_is_an_event_at_its_time_and_the_run_waits_on(worker: WorkerThread) -> None:
    run = parked(worker, remind_after_seconds=[3600, 7200])
    assert run.lease_expires_at == Question.objects.get().alarm_at
    left = suspension.seconds_until_due()
    assert left is not None
    assert 3000 < left <= 3600
    assert later(worker, 3000) == 0
    assert said(run) == [ASKED]
    assert later(worker, 700) == 1
    assert said(run) == [ASKED, REMINDED]
    run.refresh_from_db()
    assert run.lease_owner == SUSPENDED
    assert later(worker, 100) == 0
    assert later(worker, 3600) == 1
    assert said(run) == [ASKED, REMINDED, REMINDED]
    assert suspension.seconds_until_due() is None
    events = [event for event in result_of(run).events if event["type"] == "log"]
    assert [event["result"].get("is_reminder") for event in events] == [None, True, True]
    updates = [update_of(event, context_id="c", nodes={}, is_only=True)["statusUpdate"]["status"] for event in events]
    assert {update["state"] for update in updates} == {INPUT_REQUIRED}
    assert {update["message"]["messageId"] for update in updates} == {Question.objects.get().id}
    answer(caller=ALICE, task_id="ask", answer="yes")
    worker.work()
    assert result_of(run).tasks["ask"].result == {"answer": "yes", "by": "alice"}
    assert result_of(run).tasks["ask"].attempt == 1


def test_a_reminder_that_is_due_soon_comes_while_the_worker_has_the_run(worker: WorkerThread) -> None:
    run = parked(worker, remind_after_seconds=0.05)
    assert said(run) == [ASKED, REMINDED]
    assert result_of(run).run.epoch == 2  # it was let go once, after the reminder


@pytest.mark.both_engines
def test_reminders_of_the_time_in_which_no_worker_was_there_are_made_up_for(worker: WorkerThread) -> None:
    run = parked(worker, remind_after_seconds=[60, 120, 600], timeout_seconds=3600)
    assert later(worker, 300) == 1
    assert said(run) == [ASKED, REMINDED, REMINDED]


@pytest.mark.both_engines
def test_no_reminder_comes_after_the_answer_or_the_end(worker: WorkerThread) -> None:
    run = parked(worker, remind_after_seconds=60)
    answer(caller=ALICE, task_id="ask", answer="yes")
    pass_time(61)
    assert suspension.seconds_until_due() is None
    worker.work()
    assert said(run) == [ASKED]
    assert result_of(run).run.status == "completed"


@pytest.mark.both_engines
def test_a_question_that_expires_first_fails_without_a_reminder(worker: WorkerThread) -> None:
    run = parked(worker, remind_after_seconds=120, timeout_seconds=60)
    assert later(worker, 200) == 1
    assert said(run) == [ASKED]
    assert result_of(run).run.status == "failed"


@pytest.mark.both_engines
def test_an_escalation_adds_assignees(worker: WorkerThread) -> None:
    run = parked(worker, assignees=["bob"], escalate={"after_seconds": 60, "assignees": ["carol", "bob"]})
    assert inbox_of(CAROL) == []
    assert later(worker, 61) == 1
    assert said(run) == [ASKED, "escalated to carol, bob: Publish it?"]
    (question,) = inbox_of(CAROL)
    assert (question.assignees, inbox_of(BOB)) == (["bob", "carol"], [question])
    with pytest.raises(RoleTooLow):
        answer(caller=ALICE, task_id="ask", answer="yes")
    answer(caller=CAROL, task_id="ask", answer="yes")
    worker.work()
    assert result_of(run).tasks["ask"].result["by"] == "carol"
    assert Assignee.objects.count() == 0


def test_the_owner_may_still_answer_after_a_question_to_the_owner_has_escalated(worker: WorkerThread) -> None:
    parked(worker, escalate={"after_seconds": 60, "assignees": ["carol"]})
    assert later(worker, 61) == 1
    assert Question.objects.get().assignees == ["alice", "carol"]
    assert answer(caller=ALICE, task_id="ask", answer="yes").answered_by == "alice"


@pytest.mark.parametrize(
    "inputs",
    [
        {"remind_after_seconds": 0},
        {"remind_after_seconds": []},
        {"remind_after_seconds": "soon"},
        {"escalate": {"after_seconds": 60}},
        {"escalate": {"assignees": ["bob"]}},
        {"escalate": {"after_seconds": 60, "assignees": ["role:viewer"]}},
        {"escalate": {"after_seconds": 60, "assignees": ["bob"], "how": "loudly"}},
    ],
)
def test_what_is_no_reminder_or_escalation_is_refused_before_anything_is_stored(inputs: Json) -> None:
    with pytest.raises(InvalidParams):
        trees.execute_tree(caller=ALICE, tasks=[ask(**inputs)])
    assert Run.objects.count() == 0
