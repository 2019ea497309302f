"""A worker that dies at any moment of a task in a conversation: what it said is stored with its end, once, and not without it."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import ConversationTurn, Run, Task
from tasks.queue import leases
from tasks.services import trees
from tests.tasks.lives import Fuse, Stage, at_any_moment

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


@at_any_moment(5)
def test_a_turn_is_stored_with_the_end_of_its_task(stage: Stage, items: int, after: bool) -> None:
    task = {"id": "said", "name": "llm_executor", "inputs": {"prompt": "A river?", "model": "demo/demo"}}
    run = trees.execute_tree(caller=LOCAL, tasks=[task | {"params": {"conversation": "rivers"}}]).run
    life = stage.bear()
    life.fuse = Fuse(items=items, after=after)
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and Run.objects.filter(finished_at=None))
    life.kill()
    assert ConversationTurn.objects.count() == Task.objects.filter(status="completed").count()

    Run.objects.filter(finished_at=None).update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    stage.bear().wake()
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    (turn,) = ConversationTurn.objects.all()
    assert turn.run_id == run.id
    assert [message["role"] for message in turn.said] == ["user", "assistant"]
    assert turn.said[1]["content"] == Task.objects.get(id="said").result["content"]
