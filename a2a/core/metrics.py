"""Metrics of the interfaces for `GET /metrics`: calls by method and code, and open streams.

`tasks.telemetry.metrics` explains how counting works.
"""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from a2a.core.errors import INTERNAL, rule_of
from a2a.core.exceptions import UnknownMethod
from tasks.telemetry.metrics import NoRoom, once, own_registry, series
from tasks.telemetry.tracing import span

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, float("inf"))
OK: Final = "ok"
BROKEN_OFF: Final = "cancelled"
"""The code of a call whose client disconnected."""
TRANSPORTS: Final = ("sse", "websocket")
UNKNOWN: Final = "unknown"
"""The label for all unknown methods: clients can send any name, and labels must stay few."""


_FACTS: ContextVar[dict[str, Any] | None] = ContextVar("facts of the request", default=None)


class request_facts:
    """Collect facts for the log line of a request: what `note` adds within the block, on this task and its children.

    A class, because every request enters it: a generator takes twice as long.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        self._token = _FACTS.set(facts)
        return facts

    def __exit__(self, *_: object) -> None:
        _FACTS.reset(self._token)


def note(**facts: Any) -> None:
    """Add facts to the log line of the current request. The calls of a batch add theirs with commas."""
    if (known := _FACTS.get()) is None:
        return
    for name, value in facts.items():
        if value is not None and value not in known.setdefault(name, []):
            known[name].append(value)


@dataclass(frozen=True, slots=True)
class Metrics:
    requests: Counter
    duration: Histogram
    clients: Gauge


@once
def _metrics() -> Metrics:
    own = own_registry()
    return Metrics(
        requests=Counter(
            "apflow_rpc_requests", "Calls of methods, over all interfaces", ["method", "code"], registry=own
        ),
        duration=Histogram(
            "apflow_rpc_duration_seconds",
            "Time from a call to its reply, or to the start of its stream",
            ["method"],
            buckets=SECONDS,
            registry=own,
        ),
        clients=Gauge(
            "apflow_stream_clients",
            "Open event streams and WebSockets",
            ["transport"],
            registry=own,
            multiprocess_mode="livesum",
        ),
    )


def begin(methods: Iterable[str]) -> None:
    """Begin the series of successful calls, internal errors and streams at zero."""
    with suppress(NoRoom):
        for method in methods:
            for code in (OK, str(INTERNAL.code)):
                _series_of(method, code)
        for transport in TRANSPORTS:
            series(_metrics().clients, transport)


class metered:
    """Count and time a call of the method, with the code of its result or error. A class, as `request_facts`."""

    __slots__ = ("_method", "_span", "_started")

    def __init__(self, method: str) -> None:
        self._method = method
        self._span = span(method[:100], {"rpc.system": "jsonrpc", "rpc.method": method[:100]})

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            method = UNKNOWN if isinstance(error, UnknownMethod) else self._method
            code = OK if error is None else BROKEN_OFF
            if isinstance(error, Exception):
                code = str(rule_of(error).code)
            note(rpc_method=method, code=code)
            with suppress(NoRoom):
                requests, duration = _series_of(method, code)
                requests.inc()
                duration.observe(time.perf_counter() - self._started)


@cache
def _series_of(method: str, code: str) -> tuple[Counter, Histogram]:
    """Raise NoRoom."""
    return series(_metrics().requests, method, code), series(_metrics().duration, method)


def stream_client(transport: str) -> AbstractContextManager[object]:
    """Count an open stream for the block. `transport` is `sse` or `websocket`."""
    try:
        return series(_metrics().clients, transport).track_inprogress()
    except NoRoom:
        return nullcontext()
