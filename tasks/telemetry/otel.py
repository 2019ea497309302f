"""Spans by OpenTelemetry, sent by OTLP over HTTP. Imported by `tasks.telemetry.tracing` only, and only where an operator wants them.

The provider is ours alone, not the process's: what libraries would trace by themselves, with prompts and answers, goes nowhere.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tasks.telemetry.tracing import Attributes, Note

SEND_MILLISECONDS: Final = 1_000
ERROR: Final = "error.type"
"""The attribute that makes a span a failed one."""


class OtelSpans:
    def __init__(self) -> None:
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "aipartnerupflow")})
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=SEND_MILLISECONDS))
        Finalize(None, provider.shutdown, exitpriority=10)  # a forked worker ends without what atexit knows
        self._tracer = provider.get_tracer("aipartnerupflow")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, *, kind: str, parent: str | None, attributes: Attributes) -> Iterator[Note]:
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=SpanKind[kind.upper()],
            attributes=_known(attributes),
            record_exception=False,  # its text may hold what was sent
            set_status_on_exception=False,
        ) as span:

            def note(later: Attributes) -> None:
                span.set_attributes(_known(later))
                if ERROR in later:
                    span.set_status(Status(StatusCode.ERROR))

            try:
                yield note
            except BaseException as error:
                note({ERROR: type(error).__name__})
                raise

    def current(self) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent")


def _known(attributes: Attributes) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
