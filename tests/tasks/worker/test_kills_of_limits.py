"""A worker that dies at any moment of a wait for a named limit: each task runs, none is counted twice, and no place is left."""

from datetime import timedelta

import pytest
from django.db.models import QuerySet
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import LimitPlace, Question, Run, SharedLimit
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.services import trees
from tasks.services.waits.limit_waits import SharedLimits
from tests.sections import replace
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

ONE = {"one": {"match": {"executor": "echo_executor"}, "requests_per_minute": 1, "at_once": 1}}
IN_PROGRESS = Run.objects.filter(finished_at=None).exclude(lease_owner=SUSPENDED)


def a_minute_passes() -> "QuerySet[Run]":
    """For the limit. Returns the runs that are not over."""
    SharedLimit.objects.update(debts={})
    SharedLimits(ONE).serve()
    return Run.objects.filter(finished_at=None)


@at_any_moment(6, both_engines={3})
def test_a_task_beyond_the_limit_runs_once_whenever_a_worker_dies(
    stage: Stage, settings: Settings, items: int, after: bool
) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, shared=ONE))
    parts = [{"id": name, "name": "echo_executor", "parent_id": "root"} for name in "abc"]
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "Root"}, *parts]).run
    life = stage.bear()
    life.fuse = Fuse(items=items, after=after)
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and IN_PROGRESS.all())
    a_minute_passes()
    life.kill()
    Run.objects.exclude(lease_owner=SUSPENDED).update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    suspension.sweep()
    second = stage.bear()

    def is_left() -> bool:
        second.wake()
        return a_minute_passes().exists()

    stage.until_nothing(is_left)
    ended = result_of(run)
    assert ended.run.status == "completed"
    types = [event["type"] for event in ended.events]
    assert (types.count("task_completed"), types.count("final")) == (4, 1)
    assert [ended.tasks[name].attempt for name in "abc"] == [1, 1, 1]
    assert not Question.objects.filter(closed_at=None).exists()
    assert not LimitPlace.objects.exists()
