"""Bodies of requests as JSON. Large ones of a user are decoded one after the other: between two, others are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final
from weakref import WeakValueDictionary

from django.conf import settings
from django.http import HttpRequest

from a2a.core.http import body_of
from accounts.callers import Caller
from tasks.rules.strict_json import decode

LARGE_BYTES: Final = 2**18
"""Decoding so much takes the event loop some milliseconds. Smaller bodies are decoded at once."""


class Turns:
    """A lock for each user whose large bodies wait. It belongs to the event loop of the process."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, caller: Caller) -> asyncio.Lock:
        """The lock of a user. It exists while it is used."""
        lock = self._locks.get(caller.user_id)
        if lock is None:
            lock = self._locks[caller.user_id] = asyncio.Lock()
        return lock


@cache
def turns() -> Turns:
    """The turns of this process."""
    return Turns()


@asynccontextmanager
async def turn(request: HttpRequest, caller: Caller) -> AsyncIterator[None]:
    """Enter when the user's other requests with large bodies have left. A request with a small body does not wait."""
    if int(request.headers.get("Content-Length") or LARGE_BYTES) < LARGE_BYTES:
        yield
        return
    async with turns().of(caller):
        await asyncio.sleep(0)  # what has become ready meanwhile comes first
        yield


async def decoded(request: HttpRequest, caller: Caller) -> Any:
    """Return the JSON in the body of a request. Raises MalformedJson, and the errors of `body_of`."""
    async with turn(request, caller):
        return decode(body_of(request), nesting=settings.APFLOW.limits.nesting)
