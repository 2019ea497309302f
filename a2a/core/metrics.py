"""What the wire counts, for `GET /metrics`: calls by method and code, and who listens. How counting works stands in `tasks.telemetry.metrics`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from a2a.core.errors import UnknownMethod, rule_of
from tasks.telemetry.metrics_files import own_registry
from tasks.telemetry.tracing import span

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, float("inf"))
OK: Final = "ok"
BROKEN_OFF: Final = "cancelled"
"""The code of a call whose client has gone."""
UNKNOWN: Final = "unknown"
"""All methods that there are not: their names are whatever somebody sends."""


@dataclass(frozen=True, slots=True)
class Metrics:
    requests: Counter
    duration: Histogram
    clients: Gauge


@cache
def _metrics() -> Metrics:
    own = own_registry()
    return Metrics(
        requests=Counter(
            "apflow_rpc_requests", "Calls of methods, over all interfaces", ["method", "code"], registry=own
        ),
        duration=Histogram(
            "apflow_rpc_duration_seconds",
            "From a call to its answer, of a stream to its beginning",
            ["method"],
            buckets=SECONDS,
            registry=own,
        ),
        clients=Gauge(
            "apflow_stream_clients",
            "Open event streams and sockets",
            ["transport"],
            registry=own,
            multiprocess_mode="livesum",
        ),
    )


@contextmanager
def metered(method: str) -> Iterator[None]:
    """A call of the method, from here to its answer or its error."""
    started, code = time.perf_counter(), BROKEN_OFF
    try:
        with span(method[:100], {"rpc.system": "jsonrpc", "rpc.method": method[:100]}):
            yield
        code = OK
    except Exception as error:
        code = str(rule_of(error).code)
        method = UNKNOWN if isinstance(error, UnknownMethod) else method
        raise
    finally:
        _metrics().requests.labels(method, code).inc()
        _metrics().duration.labels(method).observe(time.perf_counter() - started)


@contextmanager
def stream_client(transport: str) -> Iterator[None]:
    """Somebody listens, by `sse` or `websocket`."""
    clients = _metrics().clients.labels(transport)
    clients.inc()
    try:
        yield
    finally:
        clients.dec()
