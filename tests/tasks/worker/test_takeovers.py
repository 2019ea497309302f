"""Runs that lose their worker, told one by one: what the state machine of `test_rules` found, or could have."""

import gc
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import Run, Task
from tasks.queue import leases
from tasks.services import trees
from tests.tasks.lives import Stage
from tests.workers import result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
HANGING = {"id": "a", "name": "a", "schemas": {"method": "script_executor"}, "inputs": {"script": "hang"}}


def expire_leases() -> None:
    Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()


def test_a_worker_that_slept_too_long_may_take_its_own_run_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=HANGING).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Task.objects.exclude(status="in_progress"))
    expire_leases()
    stage.until_nothing(lambda: Run.objects.filter(lease_owner=None))
    life.tell(run.id, "a", "ok")
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    assert result_of(run).statuses() == {"a": "completed"}
    stage.until_nothing(lambda: life.worker._running)
    assert "Exception in callback" not in caplog.text


def test_a_worker_that_lost_its_run_says_so_once_however_many_tasks_it_ran(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("a", "b")
    both = [HANGING | {"id": name, "parent_id": "root"} for name in names]
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "root"}, *both]).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Task.objects.filter(status="pending").exclude(id="root"))
    Run.objects.update(epoch=F("epoch") + 1, lease_owner="another-machine/1/1.00", lease_expires_at=leases.NEVER)
    for name in names:
        life.tell(run.id, name, "ok")
    stage.until_nothing(lambda: life.worker._running)
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert set(result_of(run).statuses().values()) == {"in_progress", "pending"}
