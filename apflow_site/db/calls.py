"""Calls of the database from an event loop: whose turn it is, the threads that make them, and the end of the wait for a silent database.

`concurrent.futures` has threads, too, but a second future, locks and callbacks for each call, which takes longer than
most queries.

A call may take long because its statement does, or because the database, its machine or the network
has stopped: then it would wait for minutes, and the client with it. After a while, a short query on
another connection tells the two apart.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, KeysView, Set
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from django.db import OperationalError, connection

PATIENCE_SECONDS: Final = 2.0
"""The seconds that a call may take before the database is probed, and until it is probed again."""
PROBE_SECONDS: Final = 1.5
"""The seconds that the probe may take. With the above, a client has its answer within 5 seconds."""
LONG_SECONDS: Final = 0.03
"""A call that takes longer is a long one: calls of other users are made beside it."""
BESIDE: Final = 4
"""The greatest number of calls that are made beside long ones."""
SPARE_SECONDS: Final = 30.0
"""The seconds that a thread that was started beside a long call, and its connection, are kept without work."""
TURN_SECONDS: Final = 30.0
"""The seconds that a call waits for its turn behind others of its user, at most."""
Outcome = tuple[Any, BaseException | None]
working_for: ContextVar[str] = ContextVar("working_for", default="")
"""The user for whom the current code works: whoever a request was authenticated as. Users take turns."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A sync function, and the future for its result, which belongs to an event loop of another thread."""

    function: Callable[[], Any]
    done: "asyncio.Future[Any]"
    user_id: str = field(default_factory=working_for.get)
    asked_at: float = field(default_factory=time.monotonic)

    def outcome(self) -> Outcome:
        """Call the function."""
        try:
            return self.function(), None
        except BaseException as error:  # noqa: BLE001  (the caller gets it)
            return None, error

    def end(self, result: Any, error: BaseException | None) -> None:
        """Let the future know."""
        with suppress(RuntimeError):  # the loop has ended
            self.done.get_loop().call_soon_threadsafe(_set, self.done, result, error)


def _set(done: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if done.done():
        return  # the caller was cancelled
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


class TurnTooFar(Exception):
    """A user's calls before this one take too long, so it is not made."""

    def __init__(self) -> None:
        self.message = (
            f"Other requests of yours take so long that this one has waited {TURN_SECONDS:.0f} seconds for its turn. "
            "Send fewer large requests at once, and try again."
        )
        super().__init__(self.message)


Note = Callable[[float, float], None]
"""Takes the seconds for which a call has waited for its turn, and those that it took."""


class Caller(Protocol):
    """Makes calls on threads of its own."""

    def submit(self, call: Call) -> None:
        """Return at once."""


class OfUser(Protocol):
    """Work for a user."""

    @property
    def user_id(self) -> str: ...


W = TypeVar("W", bound=OfUser)


class TurnsOf(Generic[W]):
    """Work that waits, by user. Users take turns; that of one user is done in its order. It needs a lock around it."""

    def __init__(self) -> None:
        self._by_user: dict[str, deque[W]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_user)

    @property
    def users(self) -> KeysView[str]:
        return self._by_user.keys()

    def add(self, work: W) -> None:
        self._by_user.setdefault(work.user_id, deque()).append(work)

    def take(self, may: Callable[[str], bool] = lambda _: True) -> W | None:
        """Return the next work of the first user for whom some may be done; this user is then the last."""
        user_id = next(filter(may, self._by_user), None)
        if user_id is None:
            return None
        waiting = self._by_user.pop(user_id)
        work = waiting.popleft()
        if waiting:
            self._by_user[user_id] = waiting
        return work


class Turns(TurnsOf[Call]):
    """Calls that wait, by user."""

    def end_overdue(self) -> None:
        """End the calls that have waited for TURN_SECONDS. The server's own calls wait longer."""
        begun_before = time.monotonic() - TURN_SECONDS
        for user_id, calls in [*self._by_user.items()]:
            while user_id and calls and calls[0].asked_at < begun_before:
                calls.popleft().end(None, TurnTooFar())
            if not calls:
                del self._by_user[user_id]


class Threads:
    """Up to `most` threads, each of which starts when all others are busy, and up to `beside` more beside long calls.

    Nobody can tell before how long a call takes. So one that takes long loses its place: calls of other users are
    made as if it had ended. Its own user has to wait for its end, unless nobody else wants anything.
    """

    def __init__(self, most: int, *, name: str, beside: int = 0, note: Note = lambda *_: None) -> None:
        self._most, self._beside, self._name, self._note = most, beside, name, note
        self._lock = threading.Condition()
        self._waiting = Turns()
        self._running: dict[Call, float] = {}
        """When each call began."""
        self._started = 0
        self._is_watched = False
        """Whether a free thread waits for a running call to become a long one."""

    def submit(self, call: Call) -> None:
        """Queue the call. It is not made if its future is cancelled before."""
        with self._lock:
            self._waiting.add(call)
            self._wake_one()

    def _wake_one(self) -> None:
        """See to it that a thread takes the next call, or looks again when a running one is long."""
        if self._started == len(self._running):  # none is free
            if self._started < self._most + (self._beside if len(self._users()) > 1 else 0):
                self._started += 1
                threading.Thread(target=self._call_for_ever, name=self._name, daemon=True).start()
        elif not self._is_watched or any(map(self._may_begin, self._waiting.users)):
            self._lock.notify()

    def _call_for_ever(self) -> None:
        while (call := self._next()) is not None:
            outcome = None if call.done.cancelled() else call.outcome()
            with self._lock:
                begun = self._running.pop(call)
            self._note(begun - call.asked_at, time.monotonic() - begun)
            if outcome is not None:
                call.end(*outcome)
            del call, outcome  # what they refer to must not live until the next ones
        connection.close()

    def _next(self) -> Call | None:
        """Wait for the next call whose turn it is. None: this thread is one too many."""
        with self._lock:
            while (call := self._waiting.take(self._may_begin)) is None:
                self._waiting.end_overdue()
                is_spare = self._started > self._most
                watches = bool(self._waiting) and not self._is_watched
                self._is_watched |= watches
                is_woken = self._lock.wait(LONG_SECONDS if watches else SPARE_SECONDS if is_spare else None)
                self._is_watched &= not watches
                if is_spare and not is_woken and not self._waiting:
                    self._started -= 1
                    return None
            self._running[call] = time.monotonic()
            if self._waiting:
                self._wake_one()
            return call

    def _may_begin(self, user_id: str) -> bool:
        """Whether a call of the user may begin now."""
        if not self._running:
            return True
        now = time.monotonic()
        long = [call.user_id for call, began in self._running.items() if now - began >= LONG_SECONDS]
        if len(self._running) - len(long) >= self._most:
            return False
        return user_id not in long or (len(self._users()) == 1 and len(self._running) < self._most)

    def _users(self) -> Set[str]:
        return {call.user_id for call in self._running} | self._waiting.users


class DatabaseSilent(OperationalError):
    """The database does not answer. Whether it carries out the call later is not known."""


class Patience:
    """Ends a call with DatabaseSilent once the database does not answer `probe`."""

    def __init__(self, call: "asyncio.Future[Any]", probe: Callable[[], Awaitable[object]]) -> None:
        self._call = call
        self._probe = probe
        self._probing: asyncio.Task[None] | None = None
        self._loop = call.get_loop()
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self._begin)
        call.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._timer.cancel()
        if self._probing is not None:
            self._probing.cancel()

    def _begin(self) -> None:
        self._probing = self._loop.create_task(self._check())

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe()
        except (OperationalError, TimeoutError):
            if not self._call.done():
                self._call.set_exception(DatabaseSilent("The database does not answer"))
        else:
            self._timer = self._loop.call_later(PATIENCE_SECONDS, self._begin)
