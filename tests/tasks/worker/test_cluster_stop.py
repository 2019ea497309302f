"""What ends a sentinel's wait."""

import time
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Final

from tasks.worker.killable_queue import ClusterStop
from tests.forks import forked

FOREVER: Final = 3600.0


def sleeping() -> AbstractContextManager[BaseProcess]:
    return forked(time.sleep, FOREVER)


def test_the_end_of_a_process_ends_the_wait() -> None:
    with sleeping() as one, sleeping() as other:
        stop = ClusterStop(lambda: [one, other])
        other.kill()
        assert not stop.wait(FOREVER)
        assert not other.is_alive()


def test_a_process_that_has_replaced_another_is_watched() -> None:
    with sleeping() as first, sleeping() as second:
        processes = [first]
        stop = ClusterStop(lambda: processes)
        first.kill()
        assert not stop.wait(FOREVER)
        processes[:] = [second]
        second.kill()
        assert not stop.wait(FOREVER)
        assert not second.is_alive()


def test_a_request_ends_the_wait_also_if_it_came_before() -> None:
    with sleeping() as process:
        stop = ClusterStop(lambda: [process])
        assert not stop.is_set()
        asks = Thread(target=stop.set)
        asks.start()
        assert stop.wait(FOREVER)
        asks.join()
        assert stop.is_set()
        assert stop.wait(FOREVER)


def test_nothing_ends_the_wait_but_its_time() -> None:
    with sleeping() as process:
        assert not ClusterStop(lambda: [process]).wait(0)
        assert process.is_alive()
