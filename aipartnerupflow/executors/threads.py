"""Threads for work that may block for any time."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from threading import Thread
from typing import Any, Final, TypeVar

T = TypeVar("T")


def _unchanged(work: Callable[[], Any]) -> Callable[[], Any]:
    return work


WRAPPER: Final[ContextVar[Callable[[Callable[[], Any]], Callable[[], Any]]]] = ContextVar(
    "what the worker puts around the work of threads", default=_unchanged
)


def on_a_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Run `work` on a thread of its own, and return a future for its result or exception.

    Await the future with `asyncio.wrap_future`. Use it for work that may block for more than a moment:
    all trees of a process share the 1,000 threads of `asyncio.to_thread`. `name` is the thread's name,
    for debuggers.

    A thread cannot be cancelled: when the task is cancelled, `work` runs on to its end and its result is
    dropped. It is a daemon thread, so it does not keep the process alive.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # so that a task that stops waiting leaves it alone
    Thread(target=_settle, args=(done, WRAPPER.get()(work)), name=name, daemon=True).start()
    return done


def _settle(done: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  (the future raises it)
        done.set_exception(error)
    else:
        done.set_result(result)
