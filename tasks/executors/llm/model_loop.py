"""The event loop on which models are called, on a thread of its own.

LiteLLM takes the better part of a millisecond for each part of an answer, and now and then seconds.
On its own loop it keeps no lease from being renewed, and no other task waiting.
"""

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from tasks.executors.other_loop import run_on

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


T = TypeVar("T")
LOOKUPS: Final = 1_000
"""The number of names that may be looked up at once: a slow name server of one user must not delay others."""


class ModelLoop:
    """The loop starts with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` there and return its result, or raise what it raises.

        If this is cancelled, so is the work, and its end is waited for.
        """
        return await run_on(self._started(), work)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "look-up for a model"))
                threading.Thread(target=self._loop.run_forever, name="models", daemon=True).start()
            return self._loop


class Heard:
    """Passes texts and thoughts from the thread of the models to the loop that made it, those of one turn together."""

    def __init__(self, heard: Callable[[str], None], thought: Callable[[str], None]) -> None:
        self._heard = heard
        self._thought = thought
        self._home = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._words: list[tuple[str, str]] = []

    def add(self, text: str, thought: str) -> None:
        with self._lock:
            self._words.append((text, thought))
            is_first = len(self._words) == 1
        if is_first:
            self._home.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            texts, thoughts = map("".join, zip(*self._words, strict=True))
            self._words.clear()
        if thoughts:
            self._thought(thoughts)
        if texts:
            self._heard(texts)


MODEL_LOOP: Final = ModelLoop()
