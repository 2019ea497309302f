"""Spans of requests, runs, tasks and calls of models.

They need OpenTelemetry (the extra `otel`), and its own variable OTEL_EXPORTER_OTLP_ENDPOINT, which says where to send
them. Otherwise nothing is loaded, and a span costs next to nothing.

A span contains names, ids and numbers: never inputs, results, prompts or answers.

And the ids that every log line of such a piece of work has: of its request, run and task.
"""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final, Protocol

from django.utils.module_loading import import_string

from tasks.rules.extras import how_to_install

Attributes = Mapping[str, Any]
Note = Callable[[Attributes], None]
logger = logging.getLogger(__name__)

_LOG_IDS: Final[ContextVar[Mapping[str, str]]] = ContextVar("log_ids", default=MappingProxyType({}))
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Spans(Protocol):
    """The interface of `tasks.telemetry.otel`."""

    def span(self, name: str, *, kind: str, parent: str | None, attributes: Attributes) -> Any: ...
    def current(self) -> str | None: ...


@cache
def _spans() -> Spans | None:
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        logger.warning("Nothing is traced: %s", how_to_install("otel"), extra={"event": "tracing.missing"})
        return None
    spans: Spans = import_string("tasks.telemetry.otel.OtelSpans")()
    return spans


def span(
    name: str, attributes: Attributes, *, kind: str = "internal", parent: str | None = None
) -> AbstractContextManager[Note]:
    """Time what happens inside. The function that it gives adds what is known later.

    `kind` is `internal`, `server`, `client` or `consumer`; `parent` a W3C traceparent, else the span around this one.
    """
    spans = _spans()
    return _NO_SPAN if spans is None else spans.span(name, kind=kind, parent=parent, attributes=attributes)


def current() -> str | None:
    """Return the span around this, as a W3C traceparent: what another process continues from."""
    spans = _spans()
    return spans.current() if spans else None


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
