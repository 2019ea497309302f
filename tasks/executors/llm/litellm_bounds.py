"""Keep LiteLLM from what a worker of many users cannot afford: fetches and work on its event loop, kept keys.

Imported before the first call. LiteLLM is not changed: these are its settings, and the HTTP clients that it is given.

Models are called on an event loop of their own, on its own thread: LiteLLM takes the better part of a millisecond for each part
of an answer, and now and then seconds. There it keeps no lease from being renewed, and no other task waiting.
"""

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

import litellm
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from litellm.caching.llm_caching_handler import LLMClientCache
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler, get_ssl_configuration

from tasks.executors.llm.wire import Watched, refuse_templates
from tasks.executors.other_loop import run_on

IDLE_SECONDS: Final = 15
"""The seconds that an unused connection stays open."""
CLOSE_SECONDS: Final = 1.0
T = TypeVar("T")
LOOKUPS: Final = 1_000
"""The number of names that may be looked up at once: a slow name server of one user must not delay others."""


def _session() -> ClientSession:
    """Open the connections of a loop. As many calls as there are may be open at once: no user waits for those of another."""
    connector = TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
    session = ClientSession(connector=connector, cookie_jar=DummyCookieJar())
    loop = asyncio.get_running_loop()

    def close() -> None:
        if loop.is_running():  # on another thread; otherwise Python logs at its end that the session is open
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(session.close(), loop).result(timeout=CLOSE_SECONDS)

    atexit.register(close)
    return session


class ModelLoop:
    """The loop starts with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` there and return its result, or raise what it raises.

        If this is cancelled, so is the work, and its end is waited for.
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "look-up for a model"))
                threading.Thread(target=self._loop.run_forever, name="models", daemon=True).start()
        return await run_on(self._loop, work)


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
        if texts or not thoughts:  # an empty text is the beginning of a call of a tool
            self._heard(texts)


MODEL_LOOP: Final = ModelLoop()


class Clients(LLMClientCache):
    """A cache of the HTTP clients of LiteLLM that has ours only: LiteLLM would keep each of its own for an hour, with its key."""

    def __init__(self) -> None:
        super().__init__()
        transport = LiteLLMAiohttpTransport(_session, ssl_verify=get_ssl_configuration())
        self._for_async = AsyncHTTPHandler(transport=Watched(transport))
        self._for_sync = HTTPHandler()
        self._for_sync.client.event_hooks = {"request": [refuse_templates]}
        litellm.aclient_session = self._for_async.client
        litellm.module_level_aclient = self._for_async
        litellm.in_memory_llm_clients_cache = self

    def get_cache(self, key: str, loop_bound: bool = True, **_: Any) -> Any:
        if key.startswith("async_httpx_client"):
            return self._for_async
        return self._for_sync if key.startswith("httpx_client") else None

    def set_cache(
        self, key: str, value: object, litellm_owned_client: bool = False, loop_bound: bool = True, **_: Any
    ) -> None:
        """Keep nothing."""


def apply() -> None:
    """Set LiteLLM up for this process."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.disable_streaming_logging = True  # it would build and count each answer once more
    # Otherwise it downloads one on the event loop, to count tokens that a provider did not count.
    litellm.disable_hf_tokenizer_download = True
    Clients()
