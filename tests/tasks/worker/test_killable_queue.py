"""The queue of a cluster's workers, one of which is killed while it waits for work."""

from multiprocessing.connection import Connection

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


def test_readers_take_turns() -> None:
    queue = KillableQueue()
    answers, sent = FORK.Pipe(duplex=False)
    with forked(read, queue, sent), forked(read, queue, sent), forked(read, queue, sent):
        for number in range(3):
            queue.put(number)
        assert sorted(answers.recv() for _ in range(3) if answers.poll(PATIENCE_SECONDS)) == [0, 1, 2]
    queue.close()
