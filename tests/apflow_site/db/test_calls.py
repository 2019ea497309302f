"""Threads that make calls for an event loop: as many as are needed, and no call for a caller that has left."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from apflow_site.db.calls import Call, Threads

PATIENCE_SECONDS = 60


def made(threads: Threads, function: Callable[[], Any]) -> "asyncio.Future[Any]":
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    threads.submit(Call(function, done))
    return done


async def test_a_call_returns_or_raises_on_a_thread_of_its_own() -> None:
    threads = Threads(1, name="calls")
    assert await made(threads, threading.current_thread) is not threading.current_thread()

    def fails() -> None:
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        await made(threads, fails)
    assert await made(threads, lambda: 1) == 1


async def test_a_thread_starts_when_all_others_are_busy() -> None:
    threads, together = Threads(3, name="calls"), threading.Barrier(3)

    def meet() -> threading.Thread:
        together.wait(PATIENCE_SECONDS)
        return threading.current_thread()

    one_after_the_other = {await made(threads, threading.current_thread) for _ in range(5)}
    assert len(one_after_the_other) == 1
    at_once = await asyncio.gather(*(made(threads, meet) for _ in range(6)))
    assert len(set(at_once)) == 3


async def test_a_call_is_not_made_if_its_caller_leaves_before_it_begins() -> None:
    threads, may_end, calls = Threads(1, name="calls"), threading.Event(), list[str]()
    first = made(threads, lambda: may_end.wait(PATIENCE_SECONDS))
    left = made(threads, lambda: calls.append("left"))
    stays = made(threads, lambda: calls.append("stays"))
    left.cancel()
    may_end.set()
    await asyncio.gather(first, stays)
    assert calls == ["stays"]


def test_a_call_may_end_after_its_loop() -> None:
    threads, may_end, is_over = Threads(1, name="calls"), threading.Event(), threading.Event()

    def slow() -> None:
        may_end.wait(PATIENCE_SECONDS)

    async def leave() -> None:
        made(threads, slow)

    asyncio.run(leave())
    may_end.set()

    async def next_call() -> None:
        await made(threads, is_over.set)

    asyncio.run(next_call())
    assert is_over.is_set()
