"""A worker that dies at any moment of a wait: the event that was taken stays the one, and none is lost or taken twice."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import Question, Run, SentEvent
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.services import trees
from tasks.services.waits import sent_events
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

IN_PROGRESS = Run.objects.filter(finished_at=None).exclude(lease_owner=SUSPENDED)


def started(**inputs: Any) -> Run:
    wait = {"id": "wait", "name": "event_executor", "parent_id": "root", "inputs": {"event": "paid", **inputs}}
    after = {"id": "after", "name": "echo_executor", "parent_id": "root", "dependencies": ["wait"]}
    return trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "Root"}, wait, after]).run


def send(event_id: str) -> int:
    sent = asyncio.run(sent_events.send(caller=LOCAL, event="paid", payload=event_id, event_id=event_id))
    return sent.woken or 0


def lives_until_killed(stage: Stage, items: int, after: bool) -> None:
    """A worker takes up the run, and is killed at that item of its journal, or when nothing is left to do."""
    life = stage.bear()
    life.fuse = Fuse(items=items, after=after)
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and IN_PROGRESS.all())
    life.kill()
    Run.objects.exclude(lease_owner=SUSPENDED).update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    suspension.sweep()
    suspension.resume_due()


def ends(stage: Stage, run: Run) -> Json:
    """Another worker brings the run to its end. Returns the result of the wait."""
    stage.bear().wake()
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    ended = result_of(run)
    assert ended.run.status == "completed"
    types = [event["type"] for event in ended.events]
    assert (types.count("task_completed"), types.count("final")) == (3, 1)
    (wait,) = Question.objects.all()
    assert wait.closed_at is not None
    result: Json = ended.tasks["wait"].result
    taken = None if wait.taken_id is None else SentEvent.objects.get(id=wait.taken_id).event_id
    assert result["id"] == taken
    assert ended.tasks["after"].result["wait"] == result
    return result


@at_any_moment(7)
def test_of_the_events_before_the_wait_the_first_is_taken(stage: Stage, items: int, after: bool) -> None:
    run = started()
    assert send("first") == send("second") == 0
    lives_until_killed(stage, items, after)
    send("third")
    assert ends(stage, run)["id"] == "first"


@at_any_moment(7)
def test_an_event_that_a_wait_has_taken_stays_the_one(stage: Stage, items: int, after: bool) -> None:
    run = started()
    stage.bear().wake()
    stage.until_nothing(lambda: IN_PROGRESS.all())
    stage.clear()
    assert send("first") == 1
    assert send("second") == 0
    lives_until_killed(stage, items, after)
    assert send("third") == 0
    assert ends(stage, run)["id"] == "first"


@at_any_moment(7)
def test_a_wait_that_timed_out_takes_no_event_afterwards(stage: Stage, items: int, after: bool) -> None:
    run = started(timeout_seconds=600, on_timeout="complete")
    stage.bear().wake()
    stage.until_nothing(lambda: IN_PROGRESS.all())
    stage.clear()
    Question.objects.update(expires_at=F("expires_at") - timedelta(seconds=601))
    suspension.resume_due()
    lives_until_killed(stage, items, after)
    assert send("late") == 0
    assert ends(stage, run) == dict.fromkeys(("event", "payload", "id", "received_at"))
