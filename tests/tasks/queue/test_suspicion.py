"""Which runs are suspected after the death of a worker, and how they are cleared or fail."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from django.db import connection

from accounts.callers import LOCAL
from tasks.models import Run
from tasks.queue import black_box, leases
from tasks.queue.suspicion import CLEAR, POISON_STRIKES, SUSPICIOUS_LOSSES
from tasks.services import trees

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

Workers = subprocess.Popen[str]

WORKERS = """
import json, os, signal, sys
import django
django.setup()
from tasks.queue import leases
from tasks.queue.black_box import BlackBox, encoded

def work(on_loop, *on_threads):
    box = BlackBox(leases.process_name())
    threads = [box.thread(encoded(run_id)) for run_id in on_threads]
    for thread in threads:
        thread.__enter__()
    box.enter(encoded(on_loop)) if on_loop else box.leave()
    print(leases.process_name(), flush=True)
    signal.pause()

for line in sys.stdin:
    if pid := os.fork():
        os.waitpid(pid, 0)
        print("ended", flush=True)
    else:
        work(*json.loads(line))
"""


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Forks a worker for each line, which says what it executes: each in an interpreter of its own would take a second."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORKERS], stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def queued_run() -> Run:
    return trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}]).run


def kill_at_work(
    workers: Workers, runs: Sequence[Run], *, executing: Sequence[Run | None], claim: str = "claim"
) -> None:
    """A process of this machine holds the runs and is killed; `executing`: on its loop, then on threads."""
    assert workers.stdin
    assert workers.stdout
    print(json.dumps([run.id if run else "" for run in executing]), file=workers.stdin, flush=True)
    owner = workers.stdout.readline().strip()
    claimed = getattr(leases, claim)(owner=owner, limit=len(runs))
    assert {each.run_id for each in claimed} == {run.id for run in runs}
    leases.sweep()
    assert not Run.objects.exclude(lease_owner=owner).filter(id__in=[run.id for run in runs]).exists()
    os.kill(int(owner.split("/")[1]), signal.SIGKILL)
    assert workers.stdout.readline() == "ended\n"
    leases.sweep()
    leases.discard_boxes()
    assert not black_box.runs_in(owner)


def test_the_death_counts_against_all_and_strikes_those_whose_code_was_executing(workers: Workers) -> None:
    on_loop, on_thread, waiting = queued_run(), queued_run(), queued_run()
    kill_at_work(workers, [on_loop, on_thread, waiting], executing=[on_loop, on_thread])
    counted = {run.id: (run.losses, run.strikes) for run in Run.objects.all()}
    assert counted == {on_loop.id: (1, 1), on_thread.id: (1, 1), waiting.id: (1, 0)}
    (claim,) = leases.claim(owner="a/1/1", limit=9)
    assert claim.run_id == waiting.id
    assert leases.is_any_suspected()
    assert len(leases.claim_suspected(owner="q/1/1", limit=9)) == 1, "one at a time"


def test_a_run_is_suspected_after_three_deaths_in_a_row_that_no_one_is_blamed_for(workers: Workers) -> None:
    run = queued_run()
    for _ in range(SUSPICIOUS_LOSSES):
        kill_at_work(workers, [run], executing=[None])
    assert leases.claim(owner="a/1/1", limit=1) == []
    (claim,) = leases.claim_suspected(owner="q/1/1", limit=1)
    assert (claim.is_suspected, claim.is_convicted, claim.is_poison) == (True, False, False)


def test_a_run_that_kills_the_processes_it_has_for_itself_is_poison_after_three(workers: Workers) -> None:
    run = queued_run()
    kill_at_work(workers, [run], executing=[run])
    for deaths in range(1, 4):
        kill_at_work(workers, [run], executing=[None], claim="claim_suspected")
        run.refresh_from_db()
        assert run.strikes == 1 + deaths
    (claim,) = leases.claim_suspected(owner="q/1/1", limit=1)
    assert claim.strikes == POISON_STRIKES
    assert claim.is_poison


@pytest.mark.parametrize(
    ("strikes", "left", "is_suspected"), [(0, 0, False), (1, 0, False), (2, 2, True), (4, 2, True)]
)
def test_progress_clears_a_suspect_but_who_was_convicted_stays_alone(
    strikes: int, left: int, is_suspected: bool
) -> None:
    run = queued_run()
    Run.objects.filter(id=run.id).update(losses=3, strikes=strikes)
    with connection.cursor() as cursor:
        cursor.execute(CLEAR, [run.id])
    run.refresh_from_db()
    assert (run.losses, run.strikes) == (0, left)
    assert leases.is_any_suspected() is is_suspected
    assert leases.is_any_waiting() is not is_suspected
