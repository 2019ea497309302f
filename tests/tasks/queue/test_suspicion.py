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
from tasks.models import Run, WorkerProcess
from tasks.queue import black_box, leases
from tasks.queue.black_box import End
from tasks.queue.suspicion import CLEAR, POISON_STRIKES, SUSPICIOUS_LOSSES
from tasks.services import trees

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

Workers = subprocess.Popen[str]
KILLED = End(exit_code=-signal.SIGKILL)
DEAD = f"{leases.this_host()}/99999999/1.00"

WORKERS = """
import json, os, signal, sys
import django
django.setup()
from tasks.queue import leases
from tasks.queue.black_box import BlackBox, encoded

def work(suspect, on_loop, *on_threads):
    box = BlackBox(leases.process_name())
    box.suspect(encoded(suspect))
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
    workers: Workers,
    runs: Sequence[Run],
    *,
    executing: Sequence[Run | None],
    in_quarantine: bool = False,
    supervisor: str | None = None,
    end: End | None = KILLED,
) -> str:
    """A process of this machine holds the runs and is killed; `executing`: on its loop, then on threads.

    Its supervisor is this process, unless another is named, and records the `end`.
    """
    assert workers.stdin
    assert workers.stdout
    suspect = runs[0].id if in_quarantine else ""
    print(json.dumps([suspect, *(run.id if run else "" for run in executing)]), file=workers.stdin, flush=True)
    owner = workers.stdout.readline().strip()
    leases.beat(process_id=owner, cluster_id="mine")
    WorkerProcess.objects.update(supervisor=leases.process_name() if supervisor is None else supervisor)
    claim = leases.claim_suspected if in_quarantine else leases.claim
    assert {each.run_id for each in claim(owner=owner, limit=len(runs))} == {run.id for run in runs}
    leases.sweep()
    assert not Run.objects.exclude(lease_owner=owner).filter(id__in=[run.id for run in runs]).exists()
    os.kill(leases.pid_of(owner), signal.SIGKILL)
    assert workers.stdout.readline() == "ended\n"
    if end is not None:
        black_box.record_end(owner, end)
    leases.sweep()
    leases.discard_boxes()
    return owner


def counts() -> dict[str, tuple[int, int, int]]:
    return {run.id: (run.losses, run.strikes, run.host_losses) for run in Run.objects.all()}


def test_the_death_counts_against_all_and_strikes_those_whose_code_was_executing(workers: Workers) -> None:
    on_loop, on_thread, waiting = queued_run(), queued_run(), queued_run()
    owner = kill_at_work(workers, [on_loop, on_thread, waiting], executing=[on_loop, on_thread])
    assert not black_box.runs_in(owner)
    assert counts() == {on_loop.id: (1, 1, 0), on_thread.id: (1, 1, 0), waiting.id: (1, 0, 0)}
    (claim,) = leases.claim(owner="a/1/1", limit=9)
    assert claim.run_id == waiting.id
    assert leases.is_any_suspected()
    assert len(leases.claim_suspected(owner="q/1/1", limit=9)) == 1, "one at a time"


@pytest.mark.parametrize("in_quarantine", [False, True])
@pytest.mark.parametrize(("supervisor", "end"), [("", None), (DEAD, None), (DEAD, KILLED), (None, End(is_killed=True))])
def test_a_death_that_the_supervisor_did_not_survive_or_has_caused_is_no_evidence(
    workers: Workers, supervisor: str | None, end: End | None, in_quarantine: bool
) -> None:
    run = queued_run()
    Run.objects.update(strikes=int(in_quarantine))
    kill_at_work(workers, [run], executing=[run], in_quarantine=in_quarantine, supervisor=supervisor, end=end)
    run.refresh_from_db()
    assert (run.losses, run.strikes, run.host_losses) == (0, int(in_quarantine), 1)
    assert (run.deaths, run.lease_owner) == (None, None)


def test_the_sweep_waits_for_what_a_living_supervisor_records(workers: Workers) -> None:
    run = queued_run()
    owner = kill_at_work(workers, [run], executing=[run], end=None)
    assert counts() == {run.id: (0, 0, 0)}
    black_box.record_end(owner, KILLED)
    leases.sweep()
    assert counts() == {run.id: (1, 1, 0)}


def test_a_strike_keeps_its_evidence(workers: Workers) -> None:
    run = queued_run()
    among_others = kill_at_work(workers, [run], executing=[run])
    alone = kill_at_work(workers, [run], executing=[None], in_quarantine=True, end=End(exit_code=3))
    run.refresh_from_db()
    found = [{name: value for name, value in death.items() if name != "at"} for death in run.deaths]
    assert found == [
        {"process": among_others, "exit_code": -9, "was_executing": True},
        {"process": alone, "exit_code": 3, "was_executing": False},
    ]


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
        kill_at_work(workers, [run], executing=[None], in_quarantine=True)
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
