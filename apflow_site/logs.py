"""Log formatters: text or JSON (`log.format`), with the ids of the request, run and task."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.http import HttpRequest, HttpResponseBase

from llmkeys.redact import mask
from tasks.telemetry.tracing import log_ids

logger = logging.getLogger("requests")

MOST_NOTED: Final = 20
"""The number of methods or runs of a batch that the line of a request names."""
OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextLines(logging.Formatter):
    """`2026-11-25 10:00:00,000 INFO tasks.worker.worker: … [run=… task=…]`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={_quoted(str(value))}" for name, value in sorted(log_ids().items()))
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
            **log_ids(),
            **beside,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        return mask(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def formatter(kind: str) -> logging.Formatter:
    """Return the formatter that `log.format` names."""
    return JsonLines() if kind == "json" else TextLines()


def log_request(
    request: HttpRequest,
    response: HttpResponseBase,
    *,
    route: str | None,
    seconds: float,
    noted: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Log the request by its route, not its path: a path may contain a secret.

    `noted` are facts about its calls: methods, error codes, user, runs.
    """
    calls = {name: ",".join(map(str, values[:MOST_NOTED])) for name, values in noted.items()}
    facts = {"method": request.method, "route": route, "status": response.status_code, "seconds": round(seconds, 6)}
    logger.info(
        "%s %s %s in %.1f ms%s",
        request.method,
        route,
        response.status_code,
        seconds * 1000,
        "".join(f" {name}={_quoted(value)}" for name, value in calls.items()),
        extra={"event": "request.answered", **facts, **calls},
    )


def _quoted(value: str) -> str:
    """Return the value, in quotes if it could be taken for something else."""
    return value if value.isprintable() and " " not in value else repr(value)
