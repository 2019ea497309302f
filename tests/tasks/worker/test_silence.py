"""When the supervisor takes the workers of a cluster for silent."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks.models import WorkerProcess
from tasks.queue import leases
from tasks.worker.watches import QUIET_SECONDS, WATCHED_LOOKS, SilenceWatch

CLUSTER = "host/1/cluster"


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_workers_without_a_beat_are_silent_after_several_looks() -> None:
    leases.beat(process_id="host/2/worker", cluster_id=CLUSTER)
    watch = SilenceWatch(CLUSTER)
    assert watch.look() == []
    WorkerProcess.objects.update(beat_at=Now() - timedelta(seconds=QUIET_SECONDS + 60))
    assert [watch.look() for _ in range(WATCHED_LOOKS + 1)] == [*[[]] * WATCHED_LOOKS, [CLUSTER]]
    WorkerProcess.objects.update(beat_at=Now())
    assert watch.look() == []
