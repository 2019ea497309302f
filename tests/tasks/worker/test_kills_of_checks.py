"""A worker that dies at any moment of a task with checks: a check that has ended is not made again, and its answer is not lost."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import ModelCall, Question, Run, Task
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.services import flows, trees
from tasks.services.waits import questions
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

IN_PROGRESS = Run.objects.filter(finished_at=None).exclude(lease_owner=SUSPENDED)
UNFINISHED = Run.objects.filter(finished_at=None)


def start(check: Json) -> None:
    task = {"id": "said", "name": "llm_executor", "inputs": {"prompt": "A river?", "model": "demo/demo"}}
    trees.execute_tree(caller=LOCAL, tasks=[task | {"params": {"checks": [{"on": "output", **check}]}}])


def lives_until_killed(stage: Stage, items: int, after: bool) -> None:
    """A worker takes up what there is, and is killed at that item of its journal, or when nothing is left to do."""
    life = stage.bear()
    life.fuse = Fuse(items=items, after=after)
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and IN_PROGRESS.all())
    life.kill()
    UNFINISHED.exclude(lease_owner=SUSPENDED).update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    suspension.sweep()
    suspension.resume_due()


@at_any_moment(11)
def test_a_flow_checks_an_answer_once(stage: Stage, items: int, after: bool) -> None:
    verdict = {"ok": True, "of": "{{run.inputs.value}}"}
    flows.save_flow(caller=LOCAL, name="moderate", tasks=[{"name": "echo_executor", "inputs": verdict}])
    start({"with": "flow:moderate"})
    stage.die_and_take_over(Fuse(items=items, after=after))
    said = Task.objects.get(id="said")
    assert (said.status, said.error) == ("completed", None)
    assert [(each["name"], each["passed"]) for each in said.checks or ()] == [("flow:moderate", True)]
    (child,) = Run.objects.exclude(root_id="said")
    assert Task.objects.get(id=child.root_id).result["of"] == said.result["content"]


@at_any_moment(5)
def test_an_answer_of_a_person_counts_once(stage: Stage, items: int, after: bool) -> None:
    start({"with": {"length": {"max": 1}}, "then": "ask"})
    lives_until_killed(stage, items, after)
    stage.bear().wake()
    stage.until_nothing(lambda: IN_PROGRESS.all())
    stage.clear()
    calls = ModelCall.objects.count()
    answer = {"decision": "edit", "value": "By hand."}
    questions.answer(caller=LOCAL, task_id="said", answer=answer)
    lives_until_killed(stage, items, after)
    stage.bear().wake()
    stage.until_nothing(lambda: UNFINISHED.all())
    said = Task.objects.get(id="said")
    assert (said.status, said.result["content"]) == ("completed", "By hand.")
    assert [each["passed"] for each in said.checks or ()] == [False, True]
    assert ModelCall.objects.count() == calls
    (question,) = Question.objects.all()
    assert question.closed_at is not None
