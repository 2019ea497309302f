"""Open WebSockets and event streams of this process: limits on their number, and re-authentication."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.db import Error

from a2a.live.access import access_changes
from accounts.auth import AuthenticationFailed
from accounts.callers import LOCAL, Caller
from tasks.rules.exceptions import RETRY_SECONDS, LimitReached

CHECK_SECONDS = 60.0
"""The seconds after which the caller of an open stream is authenticated again without a change that is known."""
UNKNOWN_PER_ADDRESS = 50
"""The number of WebSockets of one address that may wait for their login at a time."""
BURST_SECONDS = 2.0
"""The size of a burst: as many messages as the rate allows in this time."""

log = logging.getLogger(__name__)

WhoIsIt = Callable[[], Awaitable[Caller]]


class TooMany(LimitReached):
    """This process has reached its limit of open streams."""


class OpenStreams:
    """Counter of open streams.

    It is checked and increased without an await in between: many clients may come at once. The
    lock is for places of responses that were never sent, which the garbage collector releases.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._by_caller: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()

    def refuse_if_full(self, caller: Caller) -> None:
        """Raise TooMany if the process, or LimitReached if the caller, has reached its limit."""
        limits = settings.APFLOW.limits
        data = {"retry_after_seconds": RETRY_SECONDS}
        self._refuse_if_process_is_full()
        # Without authentication all clients are the same caller, so the limit per user does not
        # apply.
        if caller != LOCAL and self._by_caller[caller.user_id] >= limits.streams_per_user:
            raise LimitReached(
                f"You have {limits.streams_per_user} open streams, the maximum (limits.streams_per_user). Close one.",
                data=data,
            )

    def _refuse_if_process_is_full(self) -> None:
        most = settings.APFLOW.limits.streams
        if self._by_caller.total() + self._unknown.total() >= most:
            raise TooMany(
                f"This server process has {most} open streams, the maximum (limits.streams). Try again later.",
                data={"retry_after_seconds": RETRY_SECONDS},
            )

    @contextmanager
    def one_of_unknown(self, address: str) -> Iterator[None]:
        """Count a client that has not logged in yet for the block. Raises TooMany."""
        self._refuse_if_process_is_full()
        if self._unknown[address] >= UNKNOWN_PER_ADDRESS:
            raise TooMany(f"{UNKNOWN_PER_ADDRESS} clients of your address have not logged in yet. Try again later.")
        self._unknown[address] += 1
        try:
            yield
        finally:
            self._unknown[address] -= 1
            if not self._unknown[address]:
                del self._unknown[address]

    def take_place(self, caller: Caller) -> Callable[[], None]:
        """Count a stream, and return what releases its place; called again, it does nothing.

        Raises the errors of `refuse_if_full`.
        """
        with self._lock:
            self.refuse_if_full(caller)
            self._by_caller[caller.user_id] += 1
        places = [caller.user_id]

        def release() -> None:
            with self._lock:
                while places:
                    user_id = places.pop()
                    self._by_caller[user_id] -= 1
                    if not self._by_caller[user_id]:
                        del self._by_caller[user_id]

        return release

    @contextmanager
    def one_of(self, caller: Caller) -> Iterator[None]:
        """Count a stream for the block. Raises the errors of `refuse_if_full`."""
        release = self.take_place(caller)
        try:
            yield
        finally:
            release()


@cache
def open_streams() -> OpenStreams:
    """Return the open streams of this process."""
    return OpenStreams()


class Allowance:
    """Token bucket: `per_second` messages per second, with bursts of BURST_SECONDS."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = per_second * BURST_SECONDS
        self._at = time.monotonic()

    def take(self) -> bool:
        """Take one token. Returns False if there is none."""
        now = time.monotonic()
        self._left = min(self._per_second * BURST_SECONDS, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def until_revoked(caller: Caller, who_is_it: WhoIsIt) -> None:
    """Re-authenticate when the user has changed, and every CHECK_SECONDS.

    Return once the caller's identity or permissions have changed, or the credentials are no longer
    valid.
    """
    while True:
        await access_changes().wait(caller.user_id, most_seconds=CHECK_SECONDS)
        try:
            if await who_is_it() != caller:
                return
        except AuthenticationFailed:
            return
        except Error:  # streams stay open while the database is not available
            log.warning("Cannot re-authenticate an open stream", exc_info=True, extra={"event": "stream.unchecked"})


async def while_authorized(
    frames: AsyncIterator[bytes], *, caller: Caller, who_is_it: WhoIsIt, release: Callable[[], None]
) -> AsyncGenerator[bytes]:
    """Yield the frames until the caller loses access; then release the stream's place."""
    refused = asyncio.ensure_future(until_revoked(caller, who_is_it))
    try:
        async for frame in frames:
            yield frame
            if refused.done():
                return
    finally:
        release()
        refused.cancel()
        await asyncio.wait({refused})
