"""Spans and metrics by OpenTelemetry, sent by OTLP. Imported by `tasks.telemetry.tracing` only, and only where an operator wants them.

The providers are ours alone, not the process's: what libraries would trace by themselves, with prompts and answers, goes nowhere.

A span becomes one of OpenTelemetry when it is over, as its SDK has those that it exports: that takes a tenth of the time.
"""

import os
from collections.abc import Mapping
from multiprocessing.util import Finalize
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from django.utils.module_loading import import_string
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from tasks.telemetry.tracing import ERROR, Attributes, Place, Span

CONVENTIONS: Final = "1.41.0"
"""The version of OpenTelemetry's semantic conventions: the last one that has those of generative AI."""
SCHEMA: Final = f"https://opentelemetry.io/schemas/{CONVENTIONS}"
NAME: Final = "aipartnerupflow"
SEND_MILLISECONDS: Final = 1_000
MOST_WAITING: Final = 16_384
"""The number of spans that wait to be sent, unless OTEL_BSP_MAX_QUEUE_SIZE says another."""


class Measured(NamedTuple):
    """A histogram of the conventions: its unit, its description, and the boundaries of its buckets."""

    unit: str
    description: str
    boundaries: tuple[float, ...]


SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
HISTOGRAMS: Final[Mapping[str, Measured]] = MappingProxyType(
    {
        "gen_ai.client.token.usage": Measured(
            "{token}", "Number of input and output tokens used.", tuple(4**power for power in range(14))
        ),
        "gen_ai.client.operation.duration": Measured("s", "GenAI operation duration.", SECONDS),
        "gen_ai.client.operation.time_to_first_chunk": Measured(
            "s", "Time to receive the first chunk of a streamed answer.", SECONDS
        ),
    }
)


class OneResource(Resource):
    """The only resource of this process. The encoder asks for its hash with every span, which otherwise takes longer than to make the span."""

    def __hash__(self) -> int:
        return id(self)


class Otel:
    def __init__(self, protocol: str) -> None:
        """`protocol` is the name of the package of the exporters: `http` or `grpc`."""
        exporters = f"opentelemetry.exporter.otlp.proto.{protocol}"
        found = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", NAME)})
        self._resource = OneResource(found.attributes, found.schema_url)
        self._scope = InstrumentationScope(NAME, schema_url=SCHEMA)
        self._provider = TracerProvider(resource=self._resource)
        self._processor: BatchSpanProcessor | None = None
        self._histograms: dict[str, Histogram] = {}
        if _is_wanted("TRACES"):
            self._processor = BatchSpanProcessor(
                import_string(f"{exporters}.trace_exporter.OTLPSpanExporter")(),
                schedule_delay_millis=SEND_MILLISECONDS,
                max_queue_size=int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or MOST_WAITING),
            )
            self._provider.add_span_processor(self._processor)
            Finalize(None, self._provider.shutdown, exitpriority=10)  # a forked worker ends without what atexit knows
        if _is_wanted("METRICS"):
            reader = PeriodicExportingMetricReader(import_string(f"{exporters}.metric_exporter.OTLPMetricExporter")())
            meters = MeterProvider([reader], resource=self._resource, shutdown_on_exit=False)
            Finalize(None, meters.shutdown, exitpriority=10)
            meter = meters.get_meter(NAME, schema_url=SCHEMA)
            for name, (unit, description, boundaries) in HISTOGRAMS.items():
                self._histograms[name] = meter.create_histogram(
                    name, unit, description, explicit_bucket_boundaries_advisory=boundaries
                )

    def is_sampled(self, name: str, *, trace_id: int, parent: Place | None, kind: str) -> bool:
        """Ask the sampler of OTEL_TRACES_SAMPLER."""
        context = None if parent is None else set_span_in_context(NonRecordingSpan(_context(parent, is_remote=True)))
        sampled = self._provider.sampler.should_sample(context, trace_id, name, SpanKind[kind.upper()])
        return self._processor is not None and sampled.decision is Decision.RECORD_AND_SAMPLE

    def send(self, span: Span) -> None:
        if self._processor is None:
            return
        self._processor.on_end(
            ReadableSpan(
                span.name,
                _context(span.place),
                None if span.parent is None else _context(span.parent),
                self._resource,
                _without_none(span.attributes),
                events=() if span.event is None else (Event(span.event[0], _without_none(span.event[1]), span.ended),),
                kind=KINDS[span.kind],
                status=FAILED if ERROR in span.attributes else UNSET,
                start_time=span.began,
                end_time=max(span.began, span.ended),
                instrumentation_scope=self._scope,
            )
        )

    def measure(self, name: str, value: float, attributes: Attributes) -> None:
        if (histogram := self._histograms.get(name)) is not None:
            histogram.record(value, dict(attributes))


KINDS: Final[Mapping[str, SpanKind]] = MappingProxyType({kind.name.lower(): kind for kind in SpanKind})
UNSET, FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
FLAGS: Final = {is_sampled: TraceFlags(int(is_sampled)) for is_sampled in (False, True)}


def _without_none(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def _context(place: Place, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(place.trace_id, place.span_id, is_remote, FLAGS[place.is_sampled])


def _is_wanted(signal: str) -> bool:
    """Return whether the signal has an address, and is not switched off by OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER."""
    environ: Mapping[str, Any] = os.environ
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(environ.get(name) for name in names) and environ.get(f"OTEL_{signal}_EXPORTER") != "none"
