"""Readiness: of a web process by its own checks, and of the workers by what they publish."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import Run, WorkerProcess
from tasks.queue import leases
from tasks.queue.places import places
from tasks.services import trees
from tasks.services.upkeep.readiness import WORKER_CHECKS, checked, readiness

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
WORKER = "another-machine/1/1.00"
DRAINING = "another-machine/2/1.00"


def test_a_web_process_is_ready_without_workers_and_says_apart_that_there_are_none() -> None:
    assert readiness(workers=False) == {
        "ready": True,
        "checks": {name: {"ok": True, "message": "ok", "fix": None} for name in ("database", "migrations")},
    }
    both = readiness(workers=True)
    assert (both["ready"], both["checks"]["worker"]["ok"]) == (False, False)
    assert both["checks"]["worker"]["fix"] == "Start one: aipartnerupflow worker"


def test_busy_workers_are_no_fault_and_idle_ones_beside_waiting_runs_are() -> None:
    """The setting of this process, 1000 trees, says nothing about a worker that can run one."""
    leases.beat(process_id=WORKER, cluster_id="busy", places=1)
    leases.beat(process_id=DRAINING, cluster_id="draining", places=0)
    assert places().is_any_free
    for _ in range(2):
        trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}])
    leases.claim(owner=WORKER, limit=1)
    soon = Now() + timedelta(minutes=5)
    WorkerProcess.objects.update(beat_at=soon)
    Run.objects.exclude(lease_owner=None).update(lease_expires_at=soon)
    long_ago = Now() - timedelta(minutes=5)
    Run.objects.update(created_at=long_ago)
    Run.objects.exclude(started_at=None).update(started_at=long_ago)
    assert readiness()["ready"]
    assert "2 processes on 1 machine, running 1 of at most 1 trees" in readiness()["checks"]["worker"]["message"]
    assert leases.longest_wait_seconds() >= 299

    leases.beat(process_id=WORKER, cluster_id="busy", places=2)
    stuck = checked(WORKER_CHECKS["queue"])
    assert (stuck["ok"], "1 runs have waited" in stuck["message"]) == (False, True)
    WorkerProcess.objects.update(beat_at=long_ago)
    assert checked(WORKER_CHECKS["queue"])["ok"], "without workers, the check of the workers names the cause"
