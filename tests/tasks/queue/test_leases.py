"""Leases: who may work on a run, for how long, and what becomes of it when they are gone."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import Final

import psutil
import pytest
from django.db import connection
from django.db.models.functions import Now
from django_q.models import OrmQ

from accounts.callers import LOCAL
from tasks.models import Run, WorkerProcess
from tasks.queue import leases
from tasks.queue.leases import Claim
from tasks.services import trees
from tests.servers import ROOT

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ELSEWHERE = "another-machine/1/1.00"


def queued_run() -> Run:
    return trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}]).run


def claimed_run(owner: str = ELSEWHERE) -> tuple[Run, Claim]:
    run = queued_run()
    (claim,) = leases.claim(owner=owner, limit=1)
    run.refresh_from_db()
    return run, claim


def expire(run: Run) -> None:
    Run.objects.filter(id=run.id).update(lease_expires_at=Now() - timedelta(milliseconds=1))


def in_thread(function: Callable[[], list[Claim]]) -> list[Claim]:
    """On a connection of its own."""
    try:
        return function()
    finally:
        connection.close()


def queued() -> list[str]:
    return list(OrmQ.objects.order_by("id").values_list("payload", flat=True))


# --- claiming ---


def test_a_run_is_claimed_once_the_oldest_first_and_no_more_than_asked() -> None:
    made = [queued_run() for _ in range(3)]
    assert {claim.run_id for claim in leases.claim(owner="a/1/1", limit=2)} == {made[0].id, made[1].id}
    assert [claim.run_id for claim in leases.claim(owner="b/1/1", limit=9)] == [made[2].id]
    assert leases.claim(owner="c/1/1", limit=9) == []


def test_a_claim_is_no_larger_than_asked_whatever_plan_the_database_makes() -> None:
    """One that looks for the runs anew for each row locks, and so takes, other runs each time."""
    for _ in range(5):
        queued_run()
    with plans_without("hashjoin", "mergejoin", "hashagg", "sort", "material"):
        assert len(leases.claim(owner="a/1/1", limit=2)) == 2


@contextmanager
def plans_without(*methods: str) -> Iterator[None]:
    if connection.vendor == "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        try:
            for method in methods:
                cursor.execute(f"SET enable_{method} = off")
            yield
        finally:
            for method in methods:
                cursor.execute(f"RESET enable_{method}")


def test_a_claim_says_what_to_do_and_the_row_says_who_does_it() -> None:
    run, claim = claimed_run()
    assert (claim.run_id, claim.root_id, claim.target_id, claim.epoch, claim.losses) == (
        run.id,
        run.root_id,
        run.target_id,
        1,
        0,
    )
    assert (run.status, run.lease_owner, run.epoch) == ("in_progress", ELSEWHERE, 1)
    assert run.started_at is not None
    assert run.lease_expires_at is not None
    lasts = run.lease_expires_at - run.started_at
    assert abs(lasts.total_seconds() - leases.lease_seconds()) < 1


@pytest.mark.parametrize("limit", [0, -1])
def test_who_has_no_room_claims_nothing(limit: int) -> None:
    queued_run()
    assert leases.claim(owner="a/1/1", limit=limit) == []


def test_claimers_that_race_never_get_the_same_run() -> None:
    made = {queued_run().id for _ in range(40)}
    start = threading.Barrier(8)

    def claim_some(number: int) -> list[Claim]:
        start.wait()
        return in_thread(
            lambda: list(chain.from_iterable(leases.claim(owner=f"h/{number}/1", limit=2) for _ in range(10)))
        )

    with ThreadPoolExecutor(8) as pool:
        got = [claim.run_id for claims in pool.map(claim_some, range(8)) for claim in claims]
    assert len(got) == len(set(got))
    assert set(got) == made


# --- expiry ---


def test_a_run_whose_lease_expired_may_be_claimed_once_it_was_swept_and_the_epoch_grows() -> None:
    run, claim = claimed_run()
    expire(run)
    assert leases.claim(owner="b/1/1", limit=1) == []
    leases.sweep()
    (again,) = leases.claim(owner="b/1/1", limit=1)
    assert (again.run_id, again.epoch) == (run.id, claim.epoch + 2)


def test_renewing_holds_a_run_and_only_ones_own() -> None:
    run, _ = claimed_run()
    expire(run)
    leases.renew(owner="somebody/1/1", run_ids=[run.id])
    run.refresh_from_db()
    expired_at = run.lease_expires_at
    leases.renew(owner=ELSEWHERE, run_ids=[run.id])
    run.refresh_from_db()
    assert run.lease_expires_at is not None
    assert expired_at is not None
    assert run.lease_expires_at > expired_at + timedelta(seconds=leases.lease_seconds() - 1)
    assert leases.claim(owner="b/1/1", limit=1) == []


def test_a_finished_run_is_never_claimed() -> None:
    run = queued_run()
    Run.objects.filter(id=run.id).update(finished_at=Now())
    assert leases.claim(owner="a/1/1", limit=1) == []


def test_a_released_run_is_queued_and_costs_no_loss() -> None:
    run, claim = claimed_run()
    OrmQ.objects.all().delete()
    leases.release(owner=ELSEWHERE)
    assert queued() == [run.id]
    (again,) = leases.claim(owner="b/1/1", limit=1)
    assert (again.losses, again.epoch) == (0, claim.epoch + 2)


# --- sweeping ---


def test_the_sweep_queues_an_expired_run() -> None:
    run, _ = claimed_run()
    OrmQ.objects.all().delete()
    expire(run)
    assert leases.sweep() == 1
    run.refresh_from_db()
    assert (run.lease_owner, run.losses, run.epoch) == (None, 0, 2)
    assert queued() == [run.id]


def test_a_lease_that_expires_while_the_sweep_is_refused_stays() -> None:
    """As when the clock jumps: before the sweep asks, or between its question and its end."""
    run, _ = claimed_run()
    expire(run)
    leases.sweep(may_expire=lambda: False)
    run.refresh_from_db()
    assert run.lease_owner == ELSEWHERE
    Run.objects.filter(id=run.id).update(lease_expires_at=Now() + timedelta(hours=1))

    def jump() -> bool:
        expire(run)
        return True

    leases.sweep(may_expire=jump)
    run.refresh_from_db()
    assert run.lease_owner == ELSEWHERE


def beat_of(owner: str, *, seconds_ago: float) -> None:
    WorkerProcess.objects.create(
        id=owner, cluster_id="c", host=owner.split("/")[0], pid=1, started_at=Now(), beat_at=Now()
    )
    WorkerProcess.objects.filter(id=owner).update(beat_at=Now() - timedelta(seconds=seconds_ago))


@pytest.mark.parametrize(("others_beat", "losses"), [(1, 1), (25, 0)])
def test_an_owner_elsewhere_is_dead_if_it_is_silent_while_others_beat(others_beat: int, losses: int) -> None:
    """When the database does not answer, all are silent: then no worker is lost."""
    run, _ = claimed_run()
    beat_of(ELSEWHERE, seconds_ago=30)
    beat_of("a-third-machine/1/1.00", seconds_ago=others_beat)
    expire(run)
    leases.sweep()
    run.refresh_from_db()
    assert (run.lease_owner, run.host_losses, run.losses, run.strikes) == (None, losses, 0, 0)


def test_an_owner_here_that_lives_has_lost_nothing() -> None:
    """It could not renew its lease, but its process is alive."""
    run, _ = claimed_run(leases.process_name())
    beat_of(leases.process_name(), seconds_ago=30)
    beat_of(ELSEWHERE, seconds_ago=1)
    expire(run)
    leases.sweep()
    run.refresh_from_db()
    assert (run.lease_owner, run.losses) == (None, 0)


def test_the_sweep_leaves_what_is_held() -> None:
    claimed_run()
    OrmQ.objects.all().delete()
    assert leases.sweep() == 0
    assert queued() == []


def test_a_lost_wake_up_is_made_good_once_the_run_has_waited() -> None:
    run = queued_run()
    OrmQ.objects.all().delete()
    Run.objects.filter(id=run.id).update(created_at=Now() + timedelta(minutes=5))
    assert leases.sweep() == 0  # it may be on its way
    Run.objects.filter(id=run.id).update(created_at=Now() - timedelta(seconds=6))
    leases.sweep()
    leases.sweep()
    assert queued() == [run.id]


# --- owners that are gone ---


def owner_named(process: psutil.Process) -> str:
    return f"{leases.this_host()}/{process.pid}/{process.create_time():.2f}"


def test_a_living_owner_of_this_machine_keeps_its_run() -> None:
    run, _ = claimed_run(leases.process_name())
    leases.sweep()
    run.refresh_from_db()
    assert (run.lease_owner, run.losses) == (leases.process_name(), 0)


def test_a_dead_owner_of_this_machine_loses_its_run_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        owner = owner_named(psutil.Process(child.pid))
    run, _ = claimed_run(owner)
    assert leases.sweep() == 1
    run.refresh_from_db()
    assert (run.lease_owner, run.host_losses) == (None, 1)


NAME: Final = "from tasks.queue import leases; print(leases.process_name())"
DEAD: Final = "import sys; from tasks.queue import leases; print(leases.dead_owners(sys.argv[1:]))"


def said_in(namespaces: Sequence[str], *codes: str) -> list[str]:
    """What Python programs print, one after the other, in the same new namespaces. Each gets what was printed before."""
    setup = "import django; django.setup(); "
    script = 'for code in "$@"; do said="$said $(' + f'{sys.executable} -c "$code" $said)"; done; echo $said'
    shell = ["unshare", "--user", "--map-root-user", *namespaces, "sh", "-ec", script, "sh"]
    command = [*shell, *(setup + code for code in codes)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()


def test_a_machine_without_a_network_recognises_its_dead() -> None:
    owner, dead = said_in(["--net"], NAME, DEAD)
    assert dead == f"['{owner}']"


def test_a_container_on_the_same_machine_counts_as_another_host() -> None:
    (elsewhere,) = said_in(["--pid", "--fork"], "from tasks.queue import leases; print(leases.this_host())")
    assert elsewhere.rsplit("-", 1)[0] == leases.this_host().rsplit("-", 1)[0]
    assert elsewhere != leases.this_host()


def test_a_zombie_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    owner = owner_named(psutil.Process(child.pid))
    run, _ = claimed_run(owner)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken its exit code
    assert leases.sweep() == 1
    child.communicate()
    run.refresh_from_db()
    assert run.host_losses == 1


def test_another_process_with_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    run, _ = claimed_run(f"{leases.this_host()}/{os.getpid()}/1000.00")
    assert leases.sweep() == 1
    run.refresh_from_db()
    assert run.host_losses == 1


# --- signs of life ---


def test_a_beat_is_seen_and_grows_old() -> None:
    assert not leases.is_beating(within_seconds=60)
    leases.beat(process_id=leases.process_name(), cluster_id="mine")
    leases.beat(process_id=leases.process_name(), cluster_id="mine")
    assert WorkerProcess.objects.count() == 1
    assert leases.is_beating(within_seconds=60)
    assert 0 <= leases.seconds_silent(cluster_id="mine")[leases.process_name()] < 60
    assert leases.seconds_silent(cluster_id="another") == {}
    WorkerProcess.objects.update(beat_at=Now() - timedelta(seconds=61))
    assert not leases.is_beating(within_seconds=60)
    assert leases.seconds_silent(cluster_id="mine")[leases.process_name()] > 60


def test_who_has_been_silent_for_an_hour_is_forgotten() -> None:
    leases.beat(process_id=ELSEWHERE, cluster_id="old")
    WorkerProcess.objects.update(beat_at=Now() - timedelta(hours=2))
    leases.beat(process_id=leases.process_name(), cluster_id="mine")
    leases.forget_workers()
    assert [worker.cluster_id for worker in WorkerProcess.objects.all()] == ["mine"]
