"""Buffers tokens, so that the output of a tenth of a second becomes one `log` event."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 0.1


class Lines:
    """A context that buffers tokens and publishes the rest when it ends. Use it on the event loop."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._tell()

    def add(self, text: str) -> None:
        self._text += text
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._text:
            self._log(self._text)
            self._text = ""
