"""Log formatters: text or JSON (`log.format`), with the ids of the request, run and task."""

import logging
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware
from structlog.contextvars import bound_contextvars, get_contextvars

from llmkeys.redact import mask
from tasks.ids import new_id
from tasks.telemetry.tracing import span

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
logger = logging.getLogger(__name__)

HEADER: Final = "X-Request-Id"
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request ids that are accepted from a proxy; a request with any other id gets a new one."""
OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextLines(logging.Formatter):
    """`2026-11-25 10:00:00,000 INFO tasks.worker.worker: … [run=… task=…]`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in sorted(get_contextvars().items()))
        return super().formatMessage(record) + (f" [{mask(ids)}]" if ids else "")


class JsonLines(logging.Formatter):
    """One JSON object per line.

    Members: `time`, `level`, `logger`, `message`, ids, extra fields of the record, `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        beside = {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **get_contextvars(),
            **beside,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        return mask(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def formatter(kind: str) -> logging.Formatter:
    """The formatter that `log.format` names."""
    return JsonLines() if kind == "json" else TextLines()


@async_only_middleware
def request_ids(get_response: GetResponse) -> GetResponse:
    """Give every request an id, or keep that of the header `X-Request-Id`.

    Log records of the request and the response contain it. With `log.requests`, each request is
    logged with its route, not its path: a path may contain a secret.
    """

    async def answer(request: HttpRequest) -> HttpResponseBase:
        sent = request.headers.get(HEADER, "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else new_id()
        parent = request.headers.get("traceparent")
        facts = {"http.request.method": request.method, "apflow.request.id": request_id}
        with (
            bound_contextvars(request=request_id),
            span(str(request.method), facts, kind="server", parent=parent) as note,
        ):
            started = time.perf_counter()
            response = await get_response(request)
            note({"http.route": _route(request), "http.response.status_code": response.status_code})
            if settings.APFLOW.log.requests:
                _tell(request, response, seconds=time.perf_counter() - started)
        response.headers.setdefault(HEADER, request_id)
        return response

    return answer


def _route(request: HttpRequest) -> str | None:
    return f"/{request.resolver_match.route}" if request.resolver_match else None


def _tell(request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
    route = _route(request)
    facts = {"method": request.method, "route": route, "status": response.status_code, "seconds": round(seconds, 6)}
    logger.info(
        "%s %s %s in %.1f ms",
        request.method,
        route,
        response.status_code,
        seconds * 1000,
        extra={"event": "request.answered", **facts},
    )
