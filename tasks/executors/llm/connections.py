"""The connections to providers, which calls share: a new one costs a handshake each time.

Imported only in worker processes, with LiteLLM. A key is part of a request, and no connection keeps one, nor a cookie.
"""

import asyncio
import atexit
from contextlib import suppress
from typing import Final

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

IDLE_SECONDS: Final = 15
"""The seconds that an unused connection stays open."""
CLOSE_SECONDS: Final = 1.0


class Connections:
    """The connections of one event loop. As many calls as there are may be open at once: no user waits for those of another."""

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    def session(self) -> ClientSession:
        """Return the session of the running loop; LiteLLM adds its TLS settings to each request."""
        if self._session is None or self._session.closed or self._session.loop is not asyncio.get_running_loop():
            connector = TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
            self._session = ClientSession(connector=connector, cookie_jar=DummyCookieJar())
            atexit.register(_close, self._session, asyncio.get_running_loop())
        return self._session


def _close(session: ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    """Close the session, if its loop still runs on another thread: otherwise Python logs at its end that it is open."""
    if loop.is_running():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(timeout=CLOSE_SECONDS)
