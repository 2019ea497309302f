"""Threads for work that may block for any time."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def on_a_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Run it on a thread of its own, which does not keep the process alive. It cannot be cancelled.

    `asyncio.to_thread` has a handful of threads for the whole process, and names are resolved on these too: who blocks one, blocks all.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # so that a task that stops waiting leaves it alone
    Thread(target=_settle, args=(done, work), name=name, daemon=True).start()
    return done


def _settle(done: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  (goes to whoever waits)
        done.set_exception(error)
    else:
        done.set_result(result)
