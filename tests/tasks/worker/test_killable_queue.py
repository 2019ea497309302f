"""The queue of a cluster's workers, one of which is killed while it waits for work or writes a result."""

from multiprocessing.connection import Connection
from queue import Empty

import pytest

from tasks.worker.killable_queue import FileLock, KillableQueue
from tests.forks import FORK, forked
from tests.servers import until

PATIENCE_SECONDS = 60.0


def read(queue: KillableQueue, answers: Connection) -> None:
    answers.send(queue.get())


def test_a_reader_that_is_killed_while_it_waits_stops_no_other() -> None:
    queue = KillableQueue()
    lock: FileLock = queue._rlock
    answers, sent = FORK.Pipe(duplex=False)
    with forked(read, queue, sent):
        until(lambda: lock.is_taken, seconds=PATIENCE_SECONDS, what="a reader that waits")
    with forked(read, queue, sent):
        queue.put("work")
        assert answers.poll(PATIENCE_SECONDS), "the second reader waits for the first"
        assert answers.recv() == "work"
    queue.close()


def hold(lock: FileLock, answers: Connection) -> None:
    with lock:
        answers.send("held")
        answers.poll(None)


@pytest.mark.parametrize("which", ["_wlock", "size._lock"])
def test_a_writer_that_is_killed_while_it_writes_or_counts_stops_no_other(which: str) -> None:
    queue = KillableQueue()
    lock: FileLock = queue._wlock if which == "_wlock" else queue.size._lock
    held, holds = FORK.Pipe()
    with forked(hold, lock, holds):
        assert held.recv() == "held"
        assert lock.is_taken
    queue.put("work")
    assert queue.get() == "work"
    assert queue.qsize() == 0
    queue.close()


def test_a_reader_waits_no_longer_than_it_wants() -> None:
    queue = KillableQueue()
    for block, seconds in ((False, None), (True, 0.01)):
        with pytest.raises(Empty):
            queue.get(block, seconds)
    _answers, sent = FORK.Pipe(duplex=False)
    with forked(read, queue, sent):
        until(lambda: queue._rlock.is_taken, seconds=PATIENCE_SECONDS, what="a reader that waits")
        with pytest.raises(Empty):
            queue.get(timeout=0.01)
    queue.put("work")
    assert queue.get(timeout=PATIENCE_SECONDS) == "work"
    queue.close()


def test_readers_take_turns() -> None:
    queue = KillableQueue()
    answers, sent = FORK.Pipe(duplex=False)
    with forked(read, queue, sent), forked(read, queue, sent), forked(read, queue, sent):
        for number in range(3):
            queue.put(number)
        assert sorted(answers.recv() for _ in range(3) if answers.poll(PATIENCE_SECONDS)) == [0, 1, 2]
    queue.close()
