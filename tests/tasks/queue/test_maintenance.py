"""Maintenance: nothing is claimed and nothing is sent until it ends; what runs finishes."""

import pytest

from accounts.callers import LOCAL
from tasks.queue import leases, maintenance
from tasks.services import trees
from tasks.services.messages import webhooks
from tasks.services.upkeep.readiness import WORKER_CHECKS, checked
from tasks.worker import webhook_deliveries
from tests.fork_server import run_command
from tests.servers import environment_of, new_database, running_server
from tests.workers import WorkerThread, result_of

pytestmark = pytest.mark.both_engines_nightly
OWNER = "another-machine/1/1.00"
TASKS = [{"name": "echo_executor"}]


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_workers_claim_nothing_until_it_ends() -> None:
    running, waiting = (trees.execute_tree(caller=LOCAL, tasks=TASKS).run for _ in range(2))
    worker = WorkerThread()
    assert len(leases.claim(owner=OWNER, limit=1)) == 1
    maintenance.begin()
    maintenance.begin()
    assert not leases.is_any_waiting()
    assert leases.claim(owner=OWNER, limit=9) == []
    worker.work()
    leases.renew(owner=OWNER, run_ids=[running.id])
    assert "maintenance since" in checked(WORKER_CHECKS["queue"])["message"]
    assert maintenance.end()
    assert not maintenance.end()
    worker.work()
    statuses = {result_of(run).run.status for run in (running, waiting)}
    assert statuses == {"in_progress", "completed"}


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_no_webhook_is_sent_until_it_ends() -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=TASKS).run
    webhooks.add_webhook(run=run, url="https://93.184.216.34/hook")
    WorkerThread().work()
    maintenance.begin()
    assert webhook_deliveries.claim(owner=OWNER, limit=9) == []
    assert webhook_deliveries.seconds_until_due() == float("inf")
    maintenance.end()
    assert webhook_deliveries.seconds_until_due() == 0
    assert len(webhook_deliveries.claim(owner=OWNER, limit=9)) == 1


def test_a_paused_server_shows_it_and_runs_nothing_until_its_end() -> None:
    with new_database() as url, running_server(url, "--paused") as server:
        root = server.rpc("tasks.execute", {"tasks": TASKS})["task_id"]
        assert "Maintenance since" in server.http.get("/", headers={"Accept": "text/html"}).text
        ended = run_command("maintenance", "off", env=environment_of(url, server.data_dir))
        assert (ended.returncode, ended.stdout) == (0, "Maintenance is off.\n")
        assert server.finished(root)[-2]["status"] == "completed"
        assert "Maintenance since" not in server.http.get("/", headers={"Accept": "text/html"}).text
        started = run_command("maintenance", "on", env=environment_of(url, server.data_dir))
        assert "maintenance off" in started.stdout
