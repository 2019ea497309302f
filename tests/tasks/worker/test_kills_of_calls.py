"""A worker that dies at any moment while equal tasks wait for its call: each task ends, with one result, and nothing is left."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import CachedResult, CallInFlight, Question, Run
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.services import trees
from tasks.services.waits import equal_calls
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

IN_PROGRESS = Run.objects.filter(finished_at=None).exclude(lease_owner=SUSPENDED)


def asks(name: str) -> Json:
    chat = {"prompt": "Hi", "model": "demo/demo"}
    method = {"method": "llm_executor"}
    return {"id": name, "name": name, "schemas": method, "inputs": chat, "params": {"cache": "1h"}}


@at_any_moment(8, both_engines={2, 5})
def test_equal_tasks_end_with_one_result_whenever_a_worker_dies(stage: Stage, items: int, after: bool) -> None:
    parts = [asks(name) | {"parent_id": "root"} for name in "abc"]
    runs = [
        trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "Root"}, *parts]).run,
        trees.execute_tree(caller=LOCAL, tasks=[asks("d")]).run,
    ]
    life = stage.bear()
    life.fuse = Fuse(items=items, after=after)
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and IN_PROGRESS.all())
    life.kill()
    Run.objects.exclude(lease_owner=SUSPENDED).update(lease_expires_at=Now() - timedelta(seconds=1))
    second = stage.bear()

    def is_left() -> bool:
        leases.sweep()
        suspension.sweep()
        equal_calls.sweep()
        second.wake()
        return Run.objects.filter(finished_at=None).exists()

    stage.until_nothing(is_left)
    ended = [result_of(run) for run in runs]
    assert [each.run.status for each in ended] == ["completed", "completed"]
    tasks = [ended[0].tasks[name] for name in "abc"] + [ended[1].tasks["d"]]
    assert len({str(task.result) for task in tasks}) == 1
    assert [task.attempt for task in tasks].count(1) == 1
    assert CachedResult.objects.count() == 1
    assert not CallInFlight.objects.exists()
    assert not Question.objects.filter(closed_at=None).exists()
