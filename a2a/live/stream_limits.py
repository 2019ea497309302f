"""The WebSockets and event streams that this process holds open: how many there may be, and who may still be let in."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.db import Error

from accounts.auth import AuthenticationFailed
from accounts.callers import LOCAL, Caller
from tasks.rules.exceptions import RETRY_SECONDS, LimitReached

CHECK_SECONDS = 60.0
"""How often whoever holds a stream open is asked again who they are: a token expires, a user is disabled."""
BURST_SECONDS = 2.0
"""A client may send at once what it may send in so long."""

log = logging.getLogger(__name__)

WhoIsIt = Callable[[], Awaitable[Caller]]


class TooMany(LimitReached):
    """One process holds no more streams open."""


class OpenStreams:
    """They are counted on the loop of the process, so no lock is needed."""

    def __init__(self) -> None:
        self._by_caller: Counter[str] = Counter()

    def refuse_if_full(self, caller: Caller) -> None:
        """Raises TooMany when the process holds as many as it may, LimitReached when the caller does."""
        limits = settings.APFLOW.limits
        told = {"retry_after_seconds": RETRY_SECONDS}
        if self._by_caller.total() >= limits.streams:
            raise TooMany(
                f"This process holds {limits.streams} streams open (limits.streams). Try again later.", data=told
            )
        # Without authentication nobody is told apart.
        if caller != LOCAL and self._by_caller[caller.user_id] >= limits.streams_per_user:
            raise LimitReached(
                f"You hold {limits.streams_per_user} streams open (limits.streams_per_user). Close one.", data=told
            )

    @contextmanager
    def one_of(self, caller: Caller) -> Iterator[None]:
        """Count one. Raises what `refuse_if_full` does."""
        self.refuse_if_full(caller)
        self._by_caller[caller.user_id] += 1
        try:
            yield
        finally:
            self._by_caller[caller.user_id] -= 1
            if not self._by_caller[caller.user_id]:
                del self._by_caller[caller.user_id]


@cache
def open_streams() -> OpenStreams:
    """Those of this process."""
    return OpenStreams()


class Allowance:
    """How many messages a client may still send: `per_second` more every second, up to a burst."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = per_second * BURST_SECONDS
        self._at = time.monotonic()

    def take(self) -> bool:
        """False: there is none left."""
        now = time.monotonic()
        self._left = min(self._per_second * BURST_SECONDS, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def until_revoked(caller: Caller, who_is_it: WhoIsIt) -> None:
    """Return as soon as the caller is somebody else than before, or may do something else, or nobody any more."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            if await who_is_it() != caller:
                return
        except AuthenticationFailed:
            return
        except Error:  # while the database is away nobody is turned out
            log.warning("Could not check who holds a stream open", exc_info=True, extra={"event": "stream.unchecked"})


async def while_authorized(
    frames: AsyncIterator[bytes], *, caller: Caller, who_is_it: WhoIsIt
) -> AsyncGenerator[bytes]:
    """The frames, as long as the caller may have them."""
    refused = asyncio.ensure_future(until_revoked(caller, who_is_it))
    try:
        with open_streams().one_of(caller):
            async for frame in frames:
                yield frame
                if refused.done():
                    return
    finally:
        refused.cancel()
        await asyncio.wait({refused})
