"""The queue of a cluster's workers, one of which is killed while it waits for work."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from tasks.worker.killable_queue import FileLock, KillableQueue
from tests.servers import until

FORK = get_context("fork")
PATIENCE_SECONDS = 60.0


def read(queue: KillableQueue, answers: Connection) -> None:
    answers.send(queue.get())


@contextmanager
def reading(queue: KillableQueue, answers: Connection) -> Iterator[BaseProcess]:
    process = FORK.Process(target=read, args=(queue, answers), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def test_a_reader_that_is_killed_while_it_waits_stops_no_other() -> None:
    queue = KillableQueue()
    lock: FileLock = queue._rlock
    answers, sent = FORK.Pipe(duplex=False)
    with reading(queue, sent):
        until(lambda: lock.is_taken, seconds=PATIENCE_SECONDS, what="a reader that waits")
    with reading(queue, sent):
        queue.put("work")
        assert answers.poll(PATIENCE_SECONDS), "the second reader waits for the first"
        assert answers.recv() == "work"
    queue.close()


def test_readers_take_turns() -> None:
    queue = KillableQueue()
    answers, sent = FORK.Pipe(duplex=False)
    with reading(queue, sent), reading(queue, sent), reading(queue, sent):
        for number in range(3):
            queue.put(number)
        assert sorted(answers.recv() for _ in range(3) if answers.poll(PATIENCE_SECONDS)) == [0, 1, 2]
    queue.close()
