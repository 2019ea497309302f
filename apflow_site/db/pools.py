"""The thread pools on which async code does its database work. A thread lives as long as the process and keeps its connection.

A thread of its own for each request would mean a database connection for each request. SQLite has one writer at a time, so a second
thread would only wait for the lock: it commits all the calls that wait together. PostgreSQL flushes the commits of several writers
together.
"""

import asyncio
import contextvars
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar

from django.db import DatabaseError, connection, transaction

from apflow_site.db.beforehand import Key as Work
from apflow_site.db.beforehand import NotMadeYet, called_with
from apflow_site.db.calls import LONG_SECONDS, Call, Caller, Note, Outcome, Patience, Threads, Turns
from apflow_site.db.connections import IS_SQLITE, TRUSTED_SECONDS, refresh

MAX_TOGETHER: Final = 32
TOGETHER_SECONDS: Final = 0.02
"""The seconds for which calls are added to a transaction: other processes write between two."""


class SqliteWriter:
    """The one writer of SQLite, in a process that serves requests: a thread that commits all the calls that wait together.

    Each call has a savepoint of its own, so that a call that fails leaves the others alone. Its future is done once the
    transaction is committed. Users take turns.
    """

    def __init__(self, *, note: Note = lambda *_: None) -> None:
        self._note = note
        self._waiting = Turns()
        self._lock = threading.Condition()
        threading.Thread(target=self._write_forever, name="write", daemon=True).start()

    def submit(self, call: Call) -> None:
        """Queue the call, which is made even if its caller is cancelled."""
        with self._lock:
            self._waiting.add(call)
            self._lock.notify()

    def _write_forever(self) -> None:
        while True:
            with self._lock:
                self._waiting.end_overdue()
                while (first := self._waiting.take()) is None:
                    self._lock.wait()
            refresh()
            made = self._together(first) if self._waiting else [self._alone(first)]
            for call, (result, error) in made:
                call.end(result, error)
            del first, made  # what they refer to must not live until the next ones

    def _together(self, first: Call) -> list[tuple[Call, Outcome]]:
        """Carry out the call and those that wait, in one transaction."""
        made: list[tuple[Call, Outcome]] = []
        call: Call | None = first
        try:
            with transaction.atomic():
                until = time.monotonic() + TOGETHER_SECONDS
                while call is not None:
                    made.append(self._alone(call))
                    with self._lock:
                        is_full = len(made) == MAX_TOGETHER or time.monotonic() >= until
                        call = None if is_full else self._waiting.take()
        except DatabaseError as error:  # the commit failed, and nothing of the calls is stored
            return [(call, (None, error)) for call, _ in made]
        return made

    def _alone(self, call: Call) -> tuple[Call, Outcome]:
        begun = time.monotonic()
        try:
            with transaction.atomic():
                return call, (call.function(), None)
        except (Exception, NotMadeYet) as error:  # noqa: BLE001  (the caller gets it)
            return call, (None, error)
        finally:
            self._note(begun - call.asked_at, time.monotonic() - begun)


PoolName = Literal["read", "prepare", "write", "auth", "login", "ready"]
DATABASE_THREADS: Final = 1 if IS_SQLITE else 4
THREADS: Final[dict[PoolName, int]] = {
    "read": DATABASE_THREADS,
    "prepare": 1,
    "write": DATABASE_THREADS,
    "auth": 1,
    "login": 1,
    "ready": 1,
}
BESIDE: Final = {"read": 4, "prepare": 4, "write": 4}
"""The calls that may be made beside long ones, each on a thread with a connection of its own."""
CHECKED: Final = ("auth", "login")
"""Pools that check their connection before each call: they come first in a request, and refuse it if the call fails."""
WRITE_TOGETHER: Final = IS_SQLITE
"""Whether all calls that wait for the write pool share a transaction; `SqliteWriter` then checks its connection itself."""
MOST_TOGETHER: Final = 64
"""The greatest number of keys in one call of `SharedCalls`."""
P = ParamSpec("P")
T = TypeVar("T")
Group = TypeVar("Group", bound=Hashable)
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


def read(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Run a sync function that only reads."""
    return _run("read", function, *args, **kwargs)


def prepare(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Run a sync function that reads, and computes for a second: shorter reads of its user do not wait for it."""
    return _run("prepare", function, *args, **kwargs)


async def write(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a sync function that writes. It returns after the commit; on SQLite calls that wait share a transaction.

    It begins again after what it needs `beforehand`.
    """
    made: dict[Work, asyncio.Future[Any]] = {}
    while True:
        try:
            return await _run("write", called_with, made, partial(function, *args, **kwargs))
        except NotMadeYet as work:
            made[work.key] = prepare(work.make)
            with suppress(Exception):  # the call raises it, where the work belongs
                await made[work.key]


def auth(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Run a short sync function that authenticates a request."""
    return _run("auth", function, *args, **kwargs)


async def login(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a sync function that hashes a password.

    Hashing is slow on purpose. On a thread of their own, logins delay no request that has a token, and guessing
    passwords takes one core at most.
    """
    return await _run("login", function, *args, **kwargs)


def ready(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Run a short sync function that checks whether the database answers, on a thread of its own.

    It does not wait behind other calls. It may wait forever, so the caller limits the time.
    """
    return _submit("ready", function, *args, **kwargs)


def _run(pool: PoolName, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Run the function on the pool. The future raises DatabaseSilent if the database has stopped answering."""
    call = _submit(pool, function, *args, **kwargs)
    Patience(call, _probe)
    return call


def _submit(pool: PoolName, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Start the function with a copy of the caller's context, which carries the current span and log fields."""
    if not (pool == "write" and WRITE_TOGETHER):
        function = partial(_connected, 0.0 if pool in CHECKED else TRUSTED_SECONDS, function)
    call: Callable[[], T] = partial(contextvars.copy_context().run, partial(function, *args, **kwargs))
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    _threads(pool).submit(Call(call, done))
    return done


def _connected(trusted_seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Replace this thread's connection if the server has closed it: outside of Django's request cycle nothing else does."""
    refresh(trusted_seconds=trusted_seconds)
    return function(*args, **kwargs)


def _probe() -> "asyncio.Future[None]":
    return _submit("ready", _ask)


def _ask() -> None:
    """Raise OperationalError if the database refuses to answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


class SharedCalls(Generic[Group, Key, Result]):
    """Calls for a key each, for one event loop. All those that wait while one runs share the next one.

    A query costs the database little, but a turn of a thread, and on PostgreSQL a round trip; a commit costs a flush
    of the disk. The calls of a group go together: of one user, for whom `function` asks or writes.

    `function` is a sync function for the pool: it returns the results of a group by the keys that have one, of at most
    MOST_TOGETHER. It runs in the context of one of the calls, so it must not use what belongs to a request.
    """

    def __init__(
        self, function: Callable[[Group, Sequence[Key]], Mapping[Key, Result]], *, pool: PoolName = "read"
    ) -> None:
        self._function, self._pool = function, pool
        self._waiting: defaultdict[Group, list[tuple[Key, asyncio.Future[Result | None]]]] = defaultdict(list)
        self._is_called: set[Group] = set()

    def result(self, group: Group, key: Key) -> "asyncio.Future[Result | None]":
        """Return the result for the key, or None, of a call that begins after this one. Raises what `function` raises."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result | None] = loop.create_future()
        self._waiting[group].append((key, result))
        if group not in self._is_called:
            self._is_called.add(group)
            loop.call_soon(self._call_next, group)  # together with those that follow in this turn of the loop
        return result

    def _call_next(self, group: Group) -> None:
        while waiting := self._waiting[group]:
            called, self._waiting[group] = waiting[:MOST_TOGETHER], waiting[MOST_TOGETHER:]
            open_ = list(dict.fromkeys(key for key, result in called if not result.done()))
            if open_:
                call = _run(self._pool, self._function, group, open_)
                call.add_done_callback(partial(self._end, group, called))
                return
        self._is_called.remove(group)
        del self._waiting[group]

    def _end(
        self,
        group: Group,
        called: "Sequence[tuple[Key, asyncio.Future[Result | None]]]",
        call: "asyncio.Future[Mapping[Key, Result]]",
    ) -> None:
        error = call.exception()
        for key, result in called:
            if result.done():
                continue
            if error is None:
                result.set_result(call.result().get(key))
            else:
                result.set_exception(error)
        self._call_next(group)


@cache
def _threads(pool: PoolName) -> Caller:
    note = partial(_noted, pool)
    if pool == "write" and WRITE_TOGETHER:
        return SqliteWriter(note=note)
    return Threads(THREADS[pool], name=pool, beside=BESIDE.get(pool, 0), note=note)


_watchers: Final[list[Callable[[PoolName, float, float], None]]] = []


def watch(watcher: Callable[[PoolName, float, float], None]) -> None:
    """Call the function, on a thread of the pool, for each call that waited for its turn or took LONG_SECONDS or more, with both."""
    _watchers.append(watcher)


def _noted(pool: PoolName, waited: float, took: float) -> None:
    if waited >= LONG_SECONDS or took >= LONG_SECONDS:
        for watcher in _watchers:
            watcher(pool, waited, took)
