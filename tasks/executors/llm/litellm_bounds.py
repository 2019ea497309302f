"""Keep LiteLLM from what a worker of many users cannot afford: fetches and work on its event loop, kept keys.

Imported before the first call. Each change is one that LiteLLM has no setting for, or its setting.

Models are called on an event loop of their own, on its own thread: LiteLLM takes the better part of a millisecond for each part
of an answer, and now and then seconds. There it keeps no lease from being renewed, and no other task waiting.
"""

import asyncio
import atexit
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from importlib.metadata import version
from typing import Any, Final, TypeVar

import litellm
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from litellm.caching.llm_caching_handler import LLMClientCache
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.prompt_templates import huggingface_template_handler as templates
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from litellm.llms.openai.common_utils import BaseOpenAILLM

from tasks.executors.llm.wire import watch
from tasks.executors.other_loop import run_on

IDLE_SECONDS: Final = 15
"""The seconds that an unused connection stays open."""
CLOSE_SECONDS: Final = 1.0
T = TypeVar("T")
LOOKUPS: Final = 1_000
"""The number of names that may be looked up at once: a slow name server of one user must not delay others."""
NOT_FETCHED: Final = {"status": "failure"}
_MADE: Final[ContextVar[list[Any] | None]] = ContextVar("clients made by LiteLLM in this call", default=None)


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
        if texts:
            self._heard(texts)


MODEL_LOOP: Final = ModelLoop()


def apply() -> None:
    """Change LiteLLM for this process. Raises RuntimeError for a version that has not what is to be changed."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.disable_streaming_logging = True  # it would build and count each answer once more
    # Otherwise it downloads one on the event loop, to count tokens that a provider did not count.
    litellm.disable_hf_tokenizer_download = True
    # For a model of some providers it would download a Jinja template from the repository of that
    # name, which anyone can create, and render it on the event loop. LiteLLM then uses its default.
    for name in ("get_tokenizer_config", "get_chat_template_file"):
        replace_undocumented(templates, name, lambda _: _not_fetched)
        replace_undocumented(templates, f"a{name}", lambda _: _not_fetched_async)
    litellm.in_memory_llm_clients_cache = ClientsOfOneCall()
    replace_undocumented(AsyncHTTPHandler, "create_client", _watched)
    replace_undocumented(BaseOpenAILLM, "_get_async_http_client", lambda create: staticmethod(_watched(create)))
    # LiteLLM makes a record of each call for callbacks, of which there are none, and computes a cost before
    # there is an answer, from a count of the prompt's tokens. Both take a third of the time of a call. LiteLLM
    # 1.110 has no setting for it: `disable_streaming_logging` is for plain calls only, and `no-log` is asked for
    # each callback, after the record is made.
    replace_undocumented(Logging, "async_success_handler", lambda _: _nothing_async)
    replace_undocumented(Logging, "response_cost_calculator", lambda _: _nothing)


def replace_undocumented(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace what LiteLLM does not document, by what `make` returns for it. Raises RuntimeError if it is not there."""
    if not callable(replaced := getattr(owner, name, None)):
        raise RuntimeError(
            f"LiteLLM {version('litellm')} has no {owner.__name__}.{name}, which has to be replaced. Install the version that "
            "requirements/all.txt names."
        )
    setattr(owner, name, make(replaced))


def _watched(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the same clients, whose responses are looked at."""

    @wraps(create)
    def watched(*arguments: Any, **options: Any) -> Any:
        return watch(create(*arguments, **options))

    return watched


async def _nothing_async(*_: Any, **__: Any) -> None:
    return None


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _not_fetched(hf_model_name: str) -> Any:
    return NOT_FETCHED


async def _not_fetched_async(hf_model_name: str) -> Any:
    return NOT_FETCHED


class ClientsOfOneCall(LLMClientCache):
    """LiteLLM's cache of clients, without those that hold a key: LiteLLM keeps them for an hour."""

    def set_cache(
        self, key: str, value: Any, litellm_owned_client: bool = False, loop_bound: bool = True, **options: Any
    ) -> Any:
        if not hasattr(value, "api_key"):
            return super().set_cache(key, value, litellm_owned_client, loop_bound, **options)
        if litellm_owned_client and (made := _MADE.get()) is not None:
            made.append(value)
        return None


@asynccontextmanager
async def clients_of_one_call() -> AsyncIterator[None]:
    """Close the clients that LiteLLM makes while it is entered."""
    made: list[Any] = []
    token = _MADE.set(made)
    try:
        yield
    finally:
        _MADE.reset(token)
        for client in made:
            if (closing := client.close()) is not None:  # of an async client
                await closing
