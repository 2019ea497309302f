"""Log formatters: text or JSON (`log.format`), with the ids of the request, run and task. And the lines of requests."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TextIO

import orjson

from llmkeys.redact import mask
from tasks.telemetry.tracing import log_ids, with_log_ids

logger = logging.getLogger("requests")

MOST_NOTED: Final = 20
"""The number of methods or runs of a batch that the line of a request names."""
MOST_WAITING: Final = 10_000
"""The number of lines of requests that wait to be written. A request that adds another one writes them first."""
TOGETHER_SECONDS: Final = 0.02
"""The seconds in which lines of requests are collected, to be written at once."""
OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextLines(logging.Formatter):
    """`2026-11-25 10:00:00,000 INFO tasks.worker.worker: … [run=… task=…]`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = _words(dict(sorted(log_ids().items())))
        return super().formatMessage(record) + (f" [{mask(ids[1:])}]" if ids else "")


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


class Answered(NamedTuple):
    """A request that has been answered, for its line. `noted` are facts about its calls: methods, error codes, user, runs."""

    at: float
    ids: Mapping[str, str]
    method: str | None
    route: str | None
    status: int
    seconds: float
    noted: Sequence[tuple[str, Sequence[Any]]]

    def record(self) -> logging.LogRecord:
        calls = {name: ",".join(map(str, values)) for name, values in self.noted}
        message = f"{self.method} {self.route} {self.status} in {self.seconds * 1000:.1f} ms"
        facts = {"method": self.method, "route": self.route, "status": self.status, "seconds": round(self.seconds, 6)}
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, "%s%s", (message, _words(calls)), None)
        record.created, record.msecs = self.at, int(self.at % 1 * 1000)
        vars(record).update({"event": "request.answered", **facts, **calls})
        return record


class RequestLines(logging.StreamHandler[TextIO]):
    """A handler that writes the lines of requests on a thread of its own: a line takes longer than reading a task.

    Lines are written in the order of the answers, those of TOGETHER_SECONDS at once, and the last
    when the process ends. None is dropped: a request waits when MOST_WAITING lines do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting = deque[Answered]()
        self._has_lines = threading.Event()
        self._writer: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._waiting.clear)  # the parent writes them

    def add(self, answered: Answered) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.flush()
        self._waiting.append(answered)
        if not self._has_lines.is_set():
            self._has_lines.set()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="log of requests", daemon=True)
            self._writer.start()

    def flush(self) -> None:
        """Write the lines that wait. `logging` calls this, too, when the process ends."""
        self.acquire()
        try:
            lines = [self._line(self._waiting.popleft()) for _ in range(len(self._waiting))]
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        finally:
            self.release()

    def _line(self, answered: Answered) -> str:
        with with_log_ids(**answered.ids):
            record = answered.record()
            return f"{self.format(record)}\n" if self.filter(record) else ""

    def _write(self) -> None:
        while self._has_lines.wait():
            time.sleep(TOGETHER_SECONDS)
            self._has_lines.clear()
            self.flush()


def log_answered(
    *, method: str | None, route: str | None, status: int, seconds: float, noted: Mapping[str, Sequence[Any]]
) -> None:
    """Log a request by its route, not its path: a path may contain a secret. See `Answered`."""
    if logger.isEnabledFor(logging.INFO):
        facts = [(name, values[:MOST_NOTED]) for name, values in noted.items()]  # those of a stream may still grow
        line = Answered(time.time(), log_ids(), method, route, status, seconds, facts)
        for handler in logger.handlers:
            if isinstance(handler, RequestLines):
                handler.add(line)


def flush_requests() -> None:
    """Write the lines of requests that wait."""
    for handler in logger.handlers:
        handler.flush()


def _words(values: Mapping[str, str]) -> str:
    return "".join(f" {name}={_quoted(value)}" for name, value in values.items())


def _quoted(value: str) -> str:
    """Return the value, in quotes if it could be taken for something else."""
    return value if value.isprintable() and " " not in value else repr(value)
