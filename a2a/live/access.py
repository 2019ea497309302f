"""Changes of what a user may do: open streams of the user, in all web processes, are checked at once.

The process that makes a change tells its own streams, and with Redis those of the other processes and hosts, by Channels'
layer. A message is a hint: a stream that misses it is checked after `stream_limits.CHECK_SECONDS`.
"""

import asyncio
import logging
from functools import cache
from typing import Any, Final

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from accounts.recent import recent_callers

LAYER: Final = "access"
"""The name in CHANNEL_LAYERS. Consumers of WebSockets have no layer, since each would listen by itself."""
GROUP: Final = "changes"
SEND_SECONDS: Final = 2.0
REJOIN_SECONDS: Final = 3600.0
"""The layer forgets a member of a group after a day."""
AGAIN_SECONDS: Final = 5.0
log = logging.getLogger(__name__)


class AccessChanges:
    """The streams of this process that wait for changes of their users. It belongs to one event loop; any thread may `tell`."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, user_id: str, *, most_seconds: float) -> None:
        """Return when the user may have changed, or after this time."""
        self._begin()
        change = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(user_id, set())
        waiting.add(change)
        try:
            await asyncio.wait({change}, timeout=most_seconds)
        finally:
            waiting.discard(change)
            if not waiting and self._waiting.get(user_id) is waiting:
                del self._waiting[user_id]

    def tell(self, user_id: str | None) -> None:
        """End the waits for this user, or with None those for all users."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_waits, user_id)

    def _end_waits(self, user_id: str | None) -> None:
        recent_callers().forget()  # else the check would find the user as before
        found = [self._waiting.get(user_id, set())] if user_id is not None else list(self._waiting.values())
        for change in (each for waiting in found for each in waiting if not each.done()):
            change.set_result(None)

    def _begin(self) -> None:
        """Listen to other processes from the first stream on."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._waiting = loop, {}
            if (layer := get_channel_layer(LAYER)) is not None:
                self._listening = loop.create_task(self._listen(layer))

    async def _listen(self, layer: Any) -> None:
        from redis import RedisError  # noqa: PLC0415  few servers have one

        while True:
            try:
                channel = await layer.new_channel()
                while True:
                    await layer.group_add(GROUP, channel)
                    self._end_waits(None)  # what was sent meanwhile is lost
                    await self._receive(layer, channel)
            except (OSError, RedisError):
                log.warning(
                    "Redis is unavailable: open streams are checked only now and then", extra={"event": "access.deaf"}
                )
                await asyncio.sleep(AGAIN_SECONDS)

    async def _receive(self, layer: Any, channel: str) -> None:
        """Act on messages until it is time to join the group again. Raises the errors of Redis."""
        try:
            async with asyncio.timeout(REJOIN_SECONDS) as time:
                while True:
                    message = await layer.receive(channel)
                    self._end_waits(message["user_id"])
        except TimeoutError:
            if not time.expired():
                raise


@cache
def access_changes() -> AccessChanges:
    """Return the changes that the streams of this process wait for."""
    return AccessChanges()


def announce(user_id: str | None) -> None:
    """Let the open streams of a user be checked, in all web processes; None: those of all users."""
    access_changes().tell(user_id)
    if (layer := get_channel_layer(LAYER)) is None:
        return
    from redis import RedisError  # noqa: PLC0415  few servers have one

    try:
        async_to_sync(_send)(layer, user_id)
    except (OSError, RedisError):
        log.warning(
            "Redis is unavailable: other web processes check the open streams of a changed user only now and then",
            extra={"event": "access.untold"},
        )


async def _send(layer: Any, user_id: str | None) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await layer.group_send(GROUP, {"type": "user.changed", "user_id": user_id})
