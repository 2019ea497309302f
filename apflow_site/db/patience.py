"""The end of a wait for a database that has stopped answering.

A call may take long because its statement does, or because the database, its machine or the network
has stopped: then it would wait for minutes, and the client with it. After a while, a short query on
another connection tells the two apart.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from django.db import OperationalError

PATIENCE_SECONDS: Final = 2.0
"""How long a call takes before the database is probed, and how long until it is probed again."""
PROBE_SECONDS: Final = 1.5
"""How long the probe may take. With the above, a client has its answer within 5 seconds."""


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
