"""When the supervisor takes the workers of a cluster for silent, and how often it looks."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from pytest_django import DjangoAssertNumQueries

from tasks.models import WorkerProcess
from tasks.queue import leases
from tasks.worker import silence
from tasks.worker.silence import QUIET_SECONDS, WATCHED_LOOKS, SilenceWatch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines]
CLUSTER = "host/1/cluster"


@pytest.fixture(autouse=True)
def worker() -> None:
    leases.beat(process_id="host/2/worker", cluster_id=CLUSTER)


def test_nothing_is_asked_between_two_looks_while_all_is_well(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(silence, "LOOK_SECONDS", 1e6)
    watch = SilenceWatch(CLUSTER)
    assert watch.look() == []
    with django_assert_num_queries(0):
        assert watch.look() == []


def test_workers_without_a_beat_are_silent_after_looks_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "LOOK_SECONDS", 0.0)
    watch = SilenceWatch(CLUSTER)
    assert watch.look() == []
    monkeypatch.setattr(silence, "LOOK_SECONDS", 1e6)
    WorkerProcess.objects.update(beat_at=Now() - timedelta(seconds=QUIET_SECONDS + 60))
    assert [watch.look() for _ in range(WATCHED_LOOKS + 1)] == [*[[]] * WATCHED_LOOKS, [CLUSTER]]
    WorkerProcess.objects.update(beat_at=Now())
    assert watch.look() == []
