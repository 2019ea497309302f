"""Threads that make calls for an event loop: as many as are needed, and no call for a caller that has left."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from apflow_site.db import calls
from apflow_site.db.calls import Call, Threads
from apflow_site.db.pools import SqliteWriter

PATIENCE_SECONDS = 60


def made(threads: Threads | SqliteWriter, function: Callable[[], Any], *, user: str = "") -> "asyncio.Future[Any]":
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    threads.submit(Call(function, done, user))
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
    at_work, most_at_work = set[threading.Thread](), list[int]()

    def meet() -> None:
        at_work.add(threading.current_thread())
        most_at_work.append(len(at_work))
        together.wait(PATIENCE_SECONDS)
        at_work.remove(threading.current_thread())

    one_after_the_other = {await made(threads, threading.current_thread) for _ in range(5)}
    assert len(one_after_the_other) == 1
    await asyncio.gather(*(made(threads, meet) for _ in range(6)))
    assert max(most_at_work) == 3


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


async def test_a_long_call_of_one_user_does_not_keep_another_from_a_thread() -> None:
    threads, may_end = Threads(1, name="calls", beside=1), threading.Event()
    long = made(threads, lambda: may_end.wait(PATIENCE_SECONDS), user="mallory")
    mine = [made(threads, lambda: "mine", user="mallory") for _ in range(3)]
    assert await made(threads, lambda: "other", user="bob") == "other"
    assert await made(threads, lambda: "third", user="eve") == "third"
    assert not any(each.done() for each in [long, *mine])
    may_end.set()
    assert await asyncio.gather(*mine) == ["mine"] * 3


async def test_a_thread_that_is_free_looks_again_once_a_call_of_another_user_is_long() -> None:
    threads = Threads(1, name="calls", beside=1)
    for _ in range(2):  # the second time, a thread is there and free, and the call not yet long
        has_begun, may_end = threading.Event(), threading.Event()

        def takes_long(has_begun: threading.Event = has_begun, may_end: threading.Event = may_end) -> None:
            has_begun.set()
            may_end.wait(PATIENCE_SECONDS)

        long = made(threads, takes_long, user="mallory")
        assert has_begun.wait(PATIENCE_SECONDS)
        assert await made(threads, lambda: "other", user="bob") == "other"
        assert not long.done()
        may_end.set()
        await long


async def test_users_take_turns_for_a_thread() -> None:
    threads, may_end, order = Threads(1, name="calls"), threading.Event(), list[str]()
    first = made(threads, lambda: may_end.wait(PATIENCE_SECONDS), user="first")
    calls = [made(threads, partial(order.append, user), user=user) for user in ("mallory",) * 3 + ("bob",) * 2]
    may_end.set()
    await asyncio.gather(first, *calls)
    assert sorted(order) == ["bob"] * 2 + ["mallory"] * 3
    assert "".join(name[0] for name in order).startswith(("mb", "bm"))


async def test_a_user_who_is_alone_has_all_threads_also_beside_a_long_call_of_hers() -> None:
    threads, may_end = Threads(2, name="calls"), threading.Event()
    long = made(threads, lambda: may_end.wait(PATIENCE_SECONDS), user="ada")
    assert await made(threads, lambda: 1, user="ada") == 1
    may_end.set()
    await long


async def test_only_so_many_calls_are_made_beside_long_ones() -> None:
    threads, at_work, most_at_work = Threads(1, name="calls", beside=2), set[int](), list[int]()
    together = threading.Barrier(3)

    def long(number: int) -> None:
        at_work.add(number)
        most_at_work.append(len(at_work))
        together.wait(PATIENCE_SECONDS)
        at_work.remove(number)

    await asyncio.gather(*(made(threads, partial(long, number), user=f"user{number}") for number in range(6)))
    assert max(most_at_work) == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("make", [partial(Threads, 1, name="calls", beside=1), SqliteWriter])
async def test_a_call_that_waits_too_long_behind_others_of_its_user_is_refused(
    make: Callable[[], Threads | SqliteWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TURN_SECONDS", 0.0)
    threads, has_begun, may_end = make(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def long() -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_end.wait(PATIENCE_SECONDS)

    first = made(threads, long, user="mallory")
    await has_begun.wait()
    late, own = made(threads, lambda: "late", user="mallory"), made(threads, lambda: "own")
    loop.call_later(2 * calls.LONG_SECONDS, may_end.set)
    with pytest.raises(calls.TurnTooFar, match="fewer large requests"):
        await late
    assert await own == "own"
    await first
