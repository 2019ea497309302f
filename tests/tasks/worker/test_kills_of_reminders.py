"""A worker that dies at any moment of a reminder or an escalation: neither is lost, and neither comes twice."""

from datetime import datetime, timedelta

import pytest
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import Assignee, Question, Run
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.services import trees
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
IN_PROGRESS = Run.objects.filter(finished_at=None).exclude(lease_owner=SUSPENDED)


def an_hour_later() -> None:
    past = timedelta(seconds=3601)
    for question in Question.objects.all():
        question.alarm_at = question.alarm_at and question.alarm_at - past
        question.alarms = [
            alarm | {"at": (datetime.fromisoformat(alarm["at"]) - past).isoformat()} for alarm in question.alarms or []
        ]
        question.save()
    suspension.resume_due()


@at_any_moment(5)
def test_a_death_neither_loses_nor_doubles_a_reminder(stage: Stage, items: int, after: bool) -> None:
    escalate = {"after_seconds": 3500, "assignees": ["carol"]}
    inputs = {"question": "Publish it?", "remind_after_seconds": [1800, 7300], "escalate": escalate}
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": "ask", "name": "approval_executor", "inputs": inputs}]).run
    stage.bear().wake()
    stage.until_nothing(lambda: IN_PROGRESS.all())
    stage.clear()
    an_hour_later()
    life = stage.bear()
    life.fuse = Fuse(items=items, after=after)
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and IN_PROGRESS.all())
    life.kill()
    Run.objects.exclude(lease_owner=SUSPENDED).update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    suspension.resume_due()
    stage.bear().wake()
    stage.until_nothing(lambda: IN_PROGRESS.all())
    logs = [event["message"] for event in result_of(run).events if event["type"] == "log"]
    assert logs == [
        f"{what}: Publish it?"
        for what in ("waiting for an answer", "still waiting for an answer", "escalated to carol")
    ]
    question = Question.objects.get()
    assert (question.assignees, len(question.alarms)) == (["local", "carol"], 1)
    assert sorted(Assignee.objects.values_list("name", flat=True)) == ["carol", "local"]
