"""The event loop on which models are called, on a thread of its own.

LiteLLM takes the better part of a millisecond for each part of an answer, and now and then seconds.
On its own loop it keeps no lease from being renewed, and no other task waiting.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from tasks.executors.other_loop import run_on

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
