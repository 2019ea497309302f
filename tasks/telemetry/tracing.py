"""Spans of requests, runs, tasks and calls of models, tools and agents.

They need OpenTelemetry (the extra `otel`), and its own variable OTEL_EXPORTER_OTLP_ENDPOINT, which says where to send
them. Otherwise nothing is loaded, and a span costs next to nothing.

A span contains names, ids and numbers: inputs, results, prompts and answers only with the setting `telemetry.content`.

And the ids that every log line of such a piece of work has: of its request, run and task.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from random import getrandbits
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from tasks.rules.extras import how_to_install

Attributes = Mapping[str, Any]
Note = Callable[[Attributes], None]
logger = logging.getLogger(__name__)

_LOG_IDS: Final[ContextVar[Mapping[str, str]]] = ContextVar("log_ids", default=MappingProxyType({}))
ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
EXPORTERS: Final[Mapping[str, str]] = MappingProxyType({"http/protobuf": "http", "grpc": "grpc"})
"""The packages below opentelemetry.exporter.otlp.proto, by the value of PROTOCOL."""
ERROR: Final = "error.type"
"""The attribute that makes a span a failed one."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


class Place(NamedTuple):
    """The place of a span in its trace. Its text is a traceparent (W3C Trace Context, section 3.2)."""

    trace_id: int
    span_id: int
    is_sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.is_sampled:02x}"


def place_in(traceparent: str | None) -> Place | None:
    """Read a traceparent. None for a text that is not one."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    return found and Place(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))


class Span:
    """A span under way: a context manager, or begun by its making and ended by `end`. A call adds attributes.

    `began` and `ended` are nanoseconds since 1970. `event` is the name and the attributes of one that happened in it. `parts` are spans below it that end when the work that they describe does.
    """

    __slots__ = ("_token", "attributes", "began", "ended", "event", "kind", "name", "parent", "parts", "place")

    def __init__(
        self, name: str, place: Place, *, parent: Place | None, kind: str = "internal", attributes: Attributes
    ) -> None:
        self.name, self.place, self.parent, self.kind = name, place, parent, kind
        self.attributes = dict(attributes)
        self.parts: dict[Any, Span] = {}
        self.event: tuple[str, Attributes] | None = None
        self.began, self.ended = time.time_ns(), 0

    def __call__(self, attributes: Attributes) -> None:
        self.attributes.update(attributes)

    def __enter__(self) -> "Span":
        self._token = _HERE.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _HERE.reset(self._token)
        if kind is not None:
            self.attributes.setdefault(ERROR, kind.__name__)
        self.end()

    def child(self, name: str, *, kind: str = "internal", attributes: Attributes, key: str | None = None) -> "Span":
        """Return a span below this one. The `key` decides its id, as the same one does everywhere; without one it is random."""
        span_id = getrandbits(64) or 1 if key is None else _number(key, size=8)
        return Span(name, self.place._replace(span_id=span_id), parent=self.place, kind=kind, attributes=attributes)

    def end_parts(self) -> None:
        """Send the spans below it that have no end of their own."""
        for part in self.parts.values():
            part.end()
        self.parts.clear()

    def end(self) -> None:
        """Send it, if its trace is sampled."""
        self.end_parts()
        telemetry = _telemetry()
        if telemetry is not None and self.place.is_sampled:
            self.ended = self.ended or time.time_ns()
            telemetry.send(self)


_HERE: Final[ContextVar[Span | None]] = ContextVar("the span around this", default=None)


class Telemetry(Protocol):
    """The interface of `tasks.telemetry.otel`."""

    def is_sampled(self, name: str, *, trace_id: int, parent: Place | None, kind: str) -> bool: ...
    def send(self, span: Span) -> None: ...
    def measure(self, name: str, value: float, attributes: Attributes) -> None: ...


@cache
def _telemetry() -> Telemetry | None:
    environ = os.environ
    if not any(environ.get(name) for name in ENDPOINTS) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = environ.get(PROTOCOL) or "http/protobuf"
    if protocol not in EXPORTERS:
        logger.warning(
            "Nothing is traced: %s is '%s', and must be %s",
            PROTOCOL,
            protocol,
            " or ".join(EXPORTERS),
            extra={"event": "tracing.unknown"},
        )
        return None
    needed = ("opentelemetry", "opentelemetry.exporter", f"opentelemetry.exporter.otlp.proto.{EXPORTERS[protocol]}")
    if any(find_spec(name) is None for name in needed):
        logger.warning("Nothing is traced: %s", how_to_install("otel"), extra={"event": "tracing.missing"})
        return None
    telemetry: Telemetry = import_string("tasks.telemetry.otel.Otel")(EXPORTERS[protocol])
    return telemetry


def span(
    name: str, attributes: Attributes, *, kind: str = "internal", parent: str | None = None
) -> AbstractContextManager[Note]:
    """Time what happens inside. The function that it gives adds what is known later.

    `kind` is `internal`, `server`, `client` or `consumer`; `parent` a W3C traceparent, else the span around this one.
    """
    telemetry = _telemetry()
    if telemetry is None:
        return _NO_SPAN
    if parent is None and (here := _HERE.get()) is not None:
        return here.child(name, kind=kind, attributes=attributes)
    return _begun(telemetry, name, place_in(parent), kind=kind, attributes=attributes)


def span_of_run(run_id: str, trace: str | None, attributes: Attributes) -> Span | None:
    """Return the span of a run, which is the same for all workers that have the run; None if nothing is traced.

    `trace` is the traceparent of the request. Without one, the run has a trace of its own.
    """
    telemetry = _telemetry()
    if telemetry is None:
        return None
    return _begun(telemetry, "run", place_in(trace), kind="consumer", attributes=attributes, key=run_id)


def _begun(
    telemetry: Telemetry,
    name: str,
    parent: Place | None,
    *,
    kind: str,
    attributes: Attributes,
    key: str | None = None,
) -> Span:
    """Return a span whose parent, if any, is in another process, so that the sampler is asked."""
    trace_id = (getrandbits(128) or 1) if key is None else _number(key, size=16)
    trace_id = trace_id if parent is None else parent.trace_id
    is_sampled = telemetry.is_sampled(name, trace_id=trace_id, parent=parent, kind=kind)
    span_id = (getrandbits(64) or 1) if key is None else _number(key, size=8)
    return Span(name, Place(trace_id, span_id, is_sampled), parent=parent, kind=kind, attributes=attributes)


def _number(key: str, *, size: int) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=size).digest()) or 1


def nanoseconds(moment: datetime) -> int:
    """Return the nanoseconds since 1970."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def measure(name: str, value: float, attributes: Attributes) -> None:
    """Record a value of a metric of `tasks.telemetry.otel.HISTOGRAMS`."""
    if (telemetry := _telemetry()) is not None:
        telemetry.measure(name, value, attributes)


def here() -> Span | None:
    """Return the span around this."""
    return _HERE.get()


def enter(span: Span | None) -> None:
    """Let the span be around the rest of the current asyncio task."""
    _HERE.set(span)


def note(attributes: Attributes) -> None:
    """Add attributes to the span around this."""
    if (span := _HERE.get()) is not None:
        span(attributes)


def current() -> str | None:
    """Return the span around this, as a W3C traceparent: what another process continues from."""
    return None if (span := _HERE.get()) is None else str(span.place)


def continue_from(traceparent: str | None) -> None:
    """Let the span of another process be around the rest of the current asyncio task."""
    place = place_in(traceparent)
    _HERE.set(None if place is None else Span("", place, parent=None, attributes={}))


def headers_for(host: str, span: Span | None) -> Mapping[str, str]:
    """Return the header of a request to a host that continues the trace there, as far as `telemetry.traceparent_to` allows."""
    if span is None:
        return {}
    name = host.lower().rstrip(".")
    allowed = any(
        pattern in ("*", name) or (pattern.startswith(".") and (name.endswith(pattern) or name == pattern[1:]))
        for pattern in map(str.lower, settings.APFLOW.telemetry.traceparent_to)
    )
    return {"traceparent": str(span.place)} if allowed else {}


def server(scheme: str, host: str, port: int | None) -> dict[str, Any]:
    """Return the attributes of the server that a request goes to; none without a host."""
    return {"server.address": host, "server.port": port or (443 if scheme == "https" else 80)} if host else {}


def _nowhere(attributes: Attributes) -> None:
    """Traces nothing."""


_NO_SPAN: Final[AbstractContextManager[Note]] = nullcontext(_nowhere)


def log_ids() -> Mapping[str, str]:
    """Return the ids of the current work, by what they are of."""
    return _LOG_IDS.get()


def add_log_ids(**ids: str) -> None:
    """Add these to the log lines of the current asyncio task or thread, to its end."""
    _LOG_IDS.set({**_LOG_IDS.get(), **ids})


class with_log_ids:
    """Add these to the log lines within the block.

    A class, because every request enters it: a generator takes twice as long.
    """

    __slots__ = ("_ids", "_token")

    def __init__(self, **ids: str) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _LOG_IDS.set({**_LOG_IDS.get(), **self._ids})

    def __exit__(self, *_: object) -> None:
        _LOG_IDS.reset(self._token)
