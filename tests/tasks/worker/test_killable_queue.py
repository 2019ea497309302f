"""The queue of a cluster survives workers that are killed while they wait for a job or take one; results need no reader."""

import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import Failure, Success

from tasks.worker.killable_queue import KillableQueue, Results
from tests.forks import FORK, forked

PATIENCE_SECONDS = 60.0
LONG = "x" * 3_000
MOST_OF_ONE = 16
"""A queue for one item has room for some more, which Linux grants to any socket."""


def receive(answers: Connection, process: BaseProcess) -> Any:
    wait([answers, process.sentinel], PATIENCE_SECONDS)
    assert answers.poll(), f"nothing came; the exit code of the process is {process.exitcode}"
    return answers.recv()


def read(queue: KillableQueue, answers: Connection) -> None:
    answers.send("reads")
    answers.send(queue.get())


def test_a_reader_that_is_killed_while_it_waits_stops_no_other() -> None:
    queue = KillableQueue()
    answers, sent = FORK.Pipe(duplex=False)
    for _ in range(3):
        with forked(read, queue, sent) as reader:
            assert receive(answers, reader) == "reads"
    with forked(read, queue, sent) as reader:
        assert receive(answers, reader) == "reads"
        queue.put("work")
        assert receive(answers, reader) == "work"
    queue.close()


def take_for_ever(queue: KillableQueue, answers: Connection) -> None:
    while True:
        answers.send(queue.get())


def test_readers_that_are_killed_at_any_moment_leave_no_half_of_an_item() -> None:
    queue = KillableQueue(4)
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            queue.put(("work", LONG))
        queue.put("STOP")

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(20):
        answers, sent = FORK.Pipe(duplex=False)
        with forked(take_for_ever, queue, sent) as reader:
            assert receive(answers, reader) == ("work", LONG)
    is_over.set()
    while (item := queue.get()) != "STOP":
        assert item == ("work", LONG)
    writer.join()
    assert queue.empty()
    queue.close()


def fill(queue: KillableQueue, answers: Connection) -> None:
    for number in range(1_000):
        queue.put(number)
        answers.send(number)


def test_a_writer_waits_while_the_queue_is_full_and_when_it_is_killed_stops_no_other() -> None:
    queue = KillableQueue(1)
    written, writes = FORK.Pipe(duplex=False)
    with forked(fill, queue, writes) as writer:
        first = [receive(written, writer)]
        while written.poll(0.2):
            first.append(written.recv())
        assert len(first) <= MOST_OF_ONE, "it does not wait for a reader"
        assert queue.qsize() == 1
        assert [queue.get() for _ in first] == first
        assert receive(written, writer) == len(first)
    while not queue.empty():
        queue.get()
    queue.put("work")
    assert queue.get() == "work"
    assert queue.qsize() == 0
    queue.close()


def test_readers_take_turns() -> None:
    queue = KillableQueue()
    answers, sent = FORK.Pipe(duplex=False)
    with forked(take_for_ever, queue, sent), forked(take_for_ever, queue, sent), forked(take_for_ever, queue, sent):
        for number in range(30):
            queue.put(number)
        assert sorted(answers.recv() for _ in range(30) if answers.poll(PATIENCE_SECONDS)) == list(range(30))
    queue.close()


@pytest.mark.django_db
def test_only_a_job_that_fails_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    now = timezone.now()
    job: dict[str, Any] = {
        "id": "1" * 32,
        "name": "tasks.jobs.probe",
        "func": "tasks.jobs.probe",
        "args": (),
        "kwargs": {},
    }
    job |= {"started": now, "stopped": now, "result": None, "success": True}
    job["sync"] = True  # keeps the connection of the test
    Results().put(job)
    Results().put(job | {"id": "2" * 32, "success": False, "result": "the database has gone"})
    assert (Success.objects.count(), [each.result for each in Failure.objects.all()]) == (0, ["the database has gone"])
    assert [record.getMessage() for record in caplog.records if record.name == "django-q"] == [
        "Failed 'tasks.jobs.probe' (tasks.jobs.probe) - the database has gone"
    ]
