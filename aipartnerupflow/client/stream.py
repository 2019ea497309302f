"""A stream of events as a follower has it: where it stands, when it is over, what to do when it breaks. Without any I/O."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import httpx

from aipartnerupflow.client.calls import result_of
from aipartnerupflow.client.errors import Conflict, unreachable, why
from aipartnerupflow.client.types import Event

TIMEOUT: Final = httpx.Timeout(10, read=45)
"""A quiet stream carries a comment every 15 s: after three of them missed, the connection is dead."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
TRANSIENT: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses that pass: of a server that starts, or of a proxy before it."""


class Broken(httpx.TransportError):
    """The stream does not go on, though the run does."""


@dataclass(slots=True, kw_only=True)
class Following:
    """A task's latest run, followed. `seq`: the newest event that the follower has."""

    url: str
    task_id: str
    seq: int = 0
    resume_seconds: float
    has_answered: bool = False
    """Whether the server was there before. If it never was, the first failure is the last."""
    is_over: bool = False
    run_id: str | None = None
    _rest: bytes = b""
    _failures: int = 0
    _lost_at: float | None = None

    @property
    def path(self) -> str:
        return f"/tasks/{quote(self.task_id, safe='')}/events"

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(self.seq)} if self.seq else {})

    def opens(self, response: httpx.Response) -> bool:
        """Whether a stream begins. If not, read the answer and `refuse` it."""
        self._rest = b""
        return response.status_code == 200

    def refuse(self, response: httpx.Response) -> None:
        """Raises RpcError, or Broken where it may help to come back."""
        if response.status_code in TRANSIENT:
            raise Broken(f"HTTP {response.status_code}")
        if response.status_code == 204:  # there will be nothing beyond what the follower has
            self.is_over = True
        else:
            result_of(response)

    def closed(self) -> None:
        """The server closed the stream. Raises Broken when it did so before the end."""
        if not self.is_over:
            raise Broken("the stream ended before the run did")

    def take(self, chunk: bytes) -> Iterator[Event]:
        """The next events, of which the last piece has come."""
        self.has_answered, self._failures, self._lost_at = True, 0, None
        # Not by str.splitlines, nor by httpx's iter_lines: they also split where JSON may hold a U+2028.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield from self._next(json.loads(line.removeprefix(b"data:")))

    def _next(self, event: Event) -> Iterator[Event]:
        if self.run_id is None:
            self.run_id, self.seq = event["run_id"], event["seq"] - 1
        if event["run_id"] != self.run_id:
            raise Conflict(f"Another run of task '{self.task_id}' began before this one could be followed to its end.")
        if self.is_over or event["seq"] <= self.seq:
            return
        if event["seq"] > self.seq + 1:
            raise Broken(f"event {self.seq + 1} is missing")
        self.seq = event["seq"]
        self.is_over = event["type"] == "final"
        yield event

    def pause(self, error: httpx.TransportError) -> float:
        """The seconds to wait before it is tried again. Raises Unreachable when that was in vain for too long."""
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        if not self.has_answered or now - self._lost_at > self.resume_seconds:
            raise unreachable(self.url, why(error)) from error
        longest = min(FIRST_PAUSE_SECONDS * 2**self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        return random.uniform(longest / 2, longest)  # noqa: S311  so that many followers do not come back at once
