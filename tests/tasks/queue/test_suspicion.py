"""Which runs are suspected after the death of a worker, and how they are cleared or fail."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from accounts.callers import LOCAL, Caller
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
    claims = leases.claim_suspected(owner=owner) if in_quarantine else leases.claim(owner=owner, limit=len(runs))
    assert {each.run_id for each in claims} == {run.id for run in runs}
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
    assert len(leases.claim_suspected(owner="q/1/1")) == 1, "one at a time"


@pytest.mark.parametrize("in_quarantine", [False, True])
@pytest.mark.parametrize(("supervisor", "end"), [("", None), (DEAD, None), (DEAD, KILLED), (None, End(exit_code=None))])
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
    (claim,) = leases.claim_suspected(owner="q/1/1")
    assert (claim.is_suspected, claim.is_convicted, claim.is_poison) == (True, False, False)


def test_a_run_that_kills_the_processes_it_has_for_itself_is_poison_after_three(workers: Workers) -> None:
    run = queued_run()
    kill_at_work(workers, [run], executing=[run])
    for deaths in range(1, 4):
        kill_at_work(workers, [run], executing=[None], in_quarantine=True)
        run.refresh_from_db()
        assert run.strikes == 1 + deaths
    (claim,) = leases.claim_suspected(owner="q/1/1")
    assert claim.strikes == POISON_STRIKES
    assert claim.is_poison


def suspect(user: str, **record: int) -> Run:
    run = trees.execute_tree(caller=Caller(user_id=user), tasks=[{"name": "echo_executor"}]).run
    ago = Now() - timedelta(seconds=leases.FORGOTTEN_SECONDS + 1)
    Run.objects.filter(id=run.id).update(**({"losses": 3} | record), suspected_at=ago)
    return run


def claimed_by(process: str, **options: Any) -> list[str]:
    return [claim.run_id for claim in leases.claim_suspected(owner=f"{leases.this_host()}/{process}/1.00", **options)]


def test_users_take_turns_in_quarantine_by_what_they_have_there() -> None:
    first, second, third = (suspect("alice") for _ in range(3))
    other = suspect("bob")
    assert [*claimed_by("1"), *claimed_by("2")] == [first.id, other.id]
    assert [*claimed_by("3"), *claimed_by("4"), *claimed_by("5")] == [second.id, third.id]


def test_beside_a_survivor_only_a_run_is_tried_that_no_new_process_takes_and_that_is_not_convicted() -> None:
    convict, new, old = suspect("alice", strikes=2), suspect("alice", strikes=1), suspect("alice")
    Run.objects.filter(id=new.id).update(suspected_at=Now())
    assert claimed_by("1", is_shared=True) == [old.id]
    assert claimed_by("1", is_shared=True) == []
    assert [*claimed_by("2"), *claimed_by("3")] == [convict.id, new.id]


def test_convicted_runs_of_one_user_do_not_take_every_process() -> None:
    convicts = [suspect("alice", strikes=2) for _ in range(3)]
    assert [*claimed_by("1", convicts_per_user=lambda _: 2), *claimed_by("2", convicts_per_user=lambda _: 2)] == [
        run.id for run in convicts[:2]
    ]
    assert claimed_by("3", convicts_per_user=lambda _: 2) == []
    assert leases.first_suspect(convicts_per_user=lambda _: 2) is None
    weak, other = suspect("alice", strikes=1), suspect("bob", strikes=2)
    assert leases.first_suspect(convicts_per_user=lambda _: 2) == other.id
    assert [*claimed_by("3", convicts_per_user=lambda _: 2), *claimed_by("4", convicts_per_user=lambda _: 2)] == [
        other.id,
        weak.id,
    ]
    assert leases.first_suspect(convicts_per_user=lambda user: 3 if user == "alice" else 2) == convicts[2].id


def test_the_oldest_suspect_is_known() -> None:
    queued_run()
    assert leases.suspects() == leases.Suspects(count=0, waiting=0, oldest_at=None, oldest_root_id=None)
    run, held = suspect("alice"), suspect("alice")
    assert claimed_by("1") == [run.id]
    Run.objects.filter(id=held.id).update(suspected_at=Now() - timedelta(hours=1))
    found = leases.suspects()
    assert (found.count, found.waiting, found.oldest_root_id) == (2, 1, held.root_id)
    assert 3600 <= found.oldest_seconds < 3700


@pytest.mark.parametrize(
    ("strikes", "left", "is_suspected"), [(0, 0, False), (1, 0, False), (2, 2, True), (4, 2, True)]
)
def test_progress_clears_a_suspect_but_who_was_convicted_stays_alone(
    strikes: int, left: int, is_suspected: bool
) -> None:
    run = queued_run()
    Run.objects.filter(id=run.id).update(losses=3, strikes=strikes, suspected_at=Now())
    with connection.cursor() as cursor:
        cursor.execute(CLEAR, {"run_id": run.id})
    run.refresh_from_db()
    assert (run.losses, run.strikes, run.suspected_at is not None) == (0, left, is_suspected)
    assert leases.is_any_suspected() is is_suspected
    assert leases.is_any_waiting() is not is_suspected
