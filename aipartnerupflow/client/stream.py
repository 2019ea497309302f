"""The state of an event stream on the client: position, end, and reconnection. Performs no I/O."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import httpx

from .calls import result_of
from .errors import Conflict, unreachable, why
from .types import Event

TIMEOUT: Final = httpx.Timeout(10, read=45)
"""The server sends a comment every 15 s of silence.

After three missed ones the connection counts as broken.
"""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
TRANSIENT: Final = frozenset({429, 502, 503, 504})
"""Statuses of a starting server, or of a proxy in front of it: the client tries again."""


class Broken(httpx.TransportError):
    """The stream broke before its run ended, or the server did not answer a call."""


@dataclass(slots=True, kw_only=True)
class Patience:
    """The time for which a client tries again to reach a server, and its pauses."""

    url: str
    resume_seconds: float
    has_answered: bool = False
    """Whether the server has answered before. If not, the first connection error is final."""
    _failures: int = 0
    _lost_at: float | None = None

    def check(self, response: httpx.Response) -> None:
        """Raise Broken if the response is that of a starting server, or of a proxy in front of it."""
        if response.status_code in TRANSIENT:
            raise Broken(f"HTTP {response.status_code}")

    def has_advanced(self) -> None:
        """Count the time without a connection from the next failure on."""
        self.has_answered, self._failures, self._lost_at = True, 0, None

    def pause(self, error: httpx.TransportError) -> float:
        """Return the seconds to wait before the next attempt: exponential, with jitter.

        Raises Unreachable after `resume_seconds` without a connection, or if the server has never
        answered.
        """
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        if not self.has_answered or now - self._lost_at > self.resume_seconds:
            raise unreachable(self.url, why(error)) from error
        longest = min(FIRST_PAUSE_SECONDS * 2**self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        return random.uniform(longest / 2, longest)  # noqa: S311  so that clients do not all reconnect at once


@dataclass(slots=True, kw_only=True)
class Following(Patience):
    """The client's position in the events of a task's latest run. `seq` is the last event received."""

    task_id: str
    seq: int = 0
    tokens: bool = False
    """Whether words of models are to be `token` events."""
    is_over: bool = False
    run_id: str | None = None
    _rest: bytes = b""

    @property
    def path(self) -> str:
        return f"/tasks/{quote(self.task_id, safe='')}/events{'?tokens=true' if self.tokens else ''}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last_event_id} if self.seq else {})

    @property
    def _last_event_id(self) -> str:
        return str(self.seq) if self.run_id is None else f"{self.seq}:{self.run_id}"

    def opens(self, response: httpx.Response) -> bool:
        """Return whether the response is a stream. If not, read its body and call `refuse`."""
        self._rest = b""
        return response.status_code == 200

    def refuse(self, response: httpx.Response) -> None:
        """Handle a response that is not a stream.

        Raises RpcError, or Broken if a reconnection may help.
        """
        self.check(response)
        if response.status_code == 204:  # the client has received every event already
            self.is_over = True
        else:
            result_of(response)

    def closed(self) -> None:
        """Handle the end of the response. Raises Broken if the run has not ended."""
        if not self.is_over:
            raise Broken("the stream ended before the run did")

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are complete with this chunk."""
        self.has_advanced()
        # str.splitlines and httpx's iter_lines also split at U+2028, which JSON may contain.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield from self._next(json.loads(line.removeprefix(b"data:")))

    def _next(self, event: Event) -> Iterator[Event]:
        if self.run_id is None:
            self.run_id, self.seq = event["run_id"], event["seq"] - 1
        if event["run_id"] != self.run_id:
            raise Conflict(f"Another run of task '{self.task_id}' began before the stream reached the end of this one.")
        if self.is_over or event["seq"] <= self.seq:
            return
        if event["seq"] > self.seq + 1:
            raise Broken(f"event {self.seq + 1} is missing")
        self.seq = event["seq"]
        self.is_over = event["type"] == "final"
        yield event
