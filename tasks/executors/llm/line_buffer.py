"""Buffers words of a model, so that those of a tenth of a second are one `token` event."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 0.1
MAX_CHARACTERS: Final = 16_384
"""The characters of one event: longer ones would be cut."""


class Lines:
    """A context that buffers words and publishes the rest when it ends. Use it on the event loop."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._texts: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, text: str) -> None:
        self._texts.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self.flush)

    def flush(self) -> None:
        """Publish at once what has been added."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text = "".join(self._texts)
        self._texts.clear()
        for start in range(0, len(text), MAX_CHARACTERS):
            self._publish(text[start : start + MAX_CHARACTERS])
