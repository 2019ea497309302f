"""Ends connections whose client sends or takes less than `limits.client_bytes_per_second`."""

import asyncio
from collections.abc import Callable
from typing import Final

from django.conf import settings

PERIOD_SECONDS: Final = 30.0
"""The seconds over which the rate is measured before a client is too slow. Shorter pauses are ordinary."""


class Pace:
    """Watches a number of bytes that should grow while a client is expected to do its part."""

    def __init__(self, count: Callable[[], int], too_slow: Callable[[], None]) -> None:
        """`count` returns the bytes so far; `too_slow` is called once the client has been too slow."""
        self._count = count
        self._too_slow = too_slow
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Watch from now on, unless it is watched already or there is no minimum."""
        least = settings.APFLOW.limits.client_bytes_per_second * PERIOD_SECONDS
        if self._timer is None and least:
            self._watch(least)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, least: float) -> None:
        before = self._count()
        self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._look, before, least)

    def _look(self, before: int, least: float) -> None:
        if self._count() - before < least:
            self._timer = None
            self._too_slow()
        else:
            self._watch(least)


def pace_of_reader(transport: asyncio.Transport) -> Pace:
    """Return the pace at which the client takes what has been written, while the buffer is full. It is cut off."""
    return Pace(lambda: -transport.get_write_buffer_size(), transport.abort)
