"""The broker: a committed row is handed out at once, as a job that this process signed, and an idle worker is probed."""

import threading
import time
from typing import Any

import pytest
from django.db import connection
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from accounts.callers import LOCAL
from tasks.queue import broker, leases
from tasks.queue.broker import NotifiedBroker
from tasks.queue.leases import QUEUE_KEY
from tasks.services import trees
from tests.servers import until
from tests.tasks.queue.test_notify import hanging_listeners, ring_often

LONG_SECONDS = 60.0
SHORT_SECONDS = 0.3
pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> NotifiedBroker:
    """A broker that has handed out something and tidied up just now, so that neither is due."""
    monkeypatch.setattr(broker, "PROBE_SECONDS", 10 * LONG_SECONDS)
    monkeypatch.setattr(broker, "WAIT_SECONDS", SHORT_SECONDS)
    queue = NotifiedBroker(list_key=QUEUE_KEY)
    queue._last_package_at = queue._tidied_at = time.monotonic() + LONG_SECONDS
    assert queue.dequeue() == []
    return queue


def execute() -> str:
    return trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}]).run.id


def jobs_of(packages: list[tuple[None, str]]) -> list[dict[str, Any]]:
    return [SignedPackage.loads(package) for _, package in packages]


def test_an_execution_becomes_one_job_with_the_id_of_its_run(queue: NotifiedBroker) -> None:
    run_id = execute()
    (job,) = jobs_of(queue.dequeue())
    assert (job["func"], job["args"], job["kwargs"]) == ("tasks.jobs.run_tree", (run_id,), {})
    assert not OrmQ.objects.exists()
    assert queue.dequeue() == []


def test_it_wakes_no_more_workers_than_there_are(queue: NotifiedBroker) -> None:
    for _ in range(20):
        execute()
    assert len(queue.dequeue()) == Conf.WORKERS
    assert not OrmQ.objects.exists()


def test_a_commit_wakes_the_one_that_waits(queue: NotifiedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "WAIT_SECONDS", 10 * LONG_SECONDS)
    got: list[int] = []

    def wait() -> None:
        while not (packages := queue.dequeue()):
            pass
        got.append(len(packages))
        connection.close()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    execute()
    thread.join(LONG_SECONDS)
    assert got == [1]


def test_an_idle_worker_is_probed(queue: NotifiedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "PROBE_SECONDS", LONG_SECONDS)
    queue._last_package_at = time.monotonic() - broker.PROBE_SECONDS - 1
    (job,) = jobs_of(queue.dequeue())
    assert (job["func"], job["args"]) == ("tasks.jobs.probe", ())
    assert queue.dequeue() == []


def test_a_row_that_is_not_the_id_of_a_waiting_run_is_deleted_and_nothing_is_run(queue: NotifiedBroker) -> None:
    OrmQ.objects.create(key=QUEUE_KEY, payload="os.system")
    claimed = execute()
    assert [claim.run_id for claim in leases.claim(owner="a/1/1", limit=1)] == [claimed]
    waiting = execute()
    queue._tidied_at = time.monotonic() - broker.TIDY_SECONDS - 1
    (job,) = jobs_of(queue.dequeue())
    assert (job["func"], job["args"]) == ("tasks.jobs.run_tree", (waiting,))
    assert not OrmQ.objects.exists()


def test_the_row_of_a_run_that_a_worker_has_claimed_by_itself_wakes_nobody(queue: NotifiedBroker) -> None:
    execute()
    assert leases.claim(owner="a/1/1", limit=1)
    assert queue.dequeue() == []
    assert OrmQ.objects.count() == 1, "it is deleted later, with others"


def test_a_pusher_that_stands_before_a_full_queue_of_jobs_holds_nobody_up(queue: NotifiedBroker) -> None:
    execute()
    assert queue.dequeue()
    ring_often()
    until(lambda: not hanging_listeners(), seconds=60, what="an end of the listeners that hang")
    execute()
    assert queue.dequeue()


def test_rows_of_another_queue_stay(queue: NotifiedBroker) -> None:
    OrmQ.objects.create(key="another", payload="x")
    assert queue.dequeue() == []
    assert OrmQ.objects.count() == 1
