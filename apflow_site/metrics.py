"""`GET /metrics`: counters of this machine's processes, and the queue of the installation.

Each machine reports its own counters, so sum them over machines. The gauges of the queue and the
workers cover the installation, so take their maximum (docs/how-to/operate.md).
"""

import asyncio
import logging
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import orjson
import psutil
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from a2a.core import metrics as calls
from a2a.core.exceptions import WrongHttpMethod
from a2a.core.http import refusal
from a2a.core.process import software_version
from a2a.methods import METHODS, SYSTEM_METHODS
from accounts.auth import authenticate
from apflow_site.config.values import is_loopback
from apflow_site.db import pools
from apflow_site.db.connections import refresh
from tasks.executors import executor_ids
from tasks.queue import leases
from tasks.queue.clock import database_time
from tasks.queue.places import places
from tasks.rules.exceptions import RoleTooLow
from tasks.services.schedules.due_schedules import overdue
from tasks.services.upkeep.growth import size_bytes
from tasks.services.waits.limit_waits import waits_for_limits
from tasks.status import TERMINAL
from tasks.telemetry import metrics as telemetry
from tasks.telemetry.metrics import metrics_folder

REQUEST_SECONDS: Final = 5.0
"""The seconds that a request may take in all, from the connection to the end of its reply."""
MOST_AT_ONCE: Final = 16
"""Further connections are closed at once. Usually there is one: that of Prometheus."""


class Handler(WSGIRequestHandler):
    """Ends the connection after REQUEST_SECONDS, however slowly the client sends or reads."""

    def setup(self) -> None:
        super().setup()
        self._deadline = threading.Timer(REQUEST_SECONDS, self._cut)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        with suppress(OSError):  # the client has gone, or was cut off
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _cut(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def with_health(app: Callable[..., Iterable[bytes]], reply: bytes) -> Callable[..., Iterable[bytes]]:
    """Answer `/health` with the reply, in JSON, and everything else by the application. Uses no database."""

    def route(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health":
            return app(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(reply)))])
        return [reply]

    return route


class MetricsServer(ThreadingMixIn, WSGIServer):
    """A server with a bounded number of threads."""

    daemon_threads = True

    def __init__(self, host: str, port: int, app: Callable[..., Any]) -> None:
        """Raise OSError if it cannot listen there."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((host, port), Handler)
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error of a client that has gone."""


log = logging.getLogger(__name__)

Measures = Sequence[tuple[str, str, float]]
"""Name, meaning and value of each gauge of the installation."""
DATABASE_SECONDS: Final = 2.0
OVERDUE_SECONDS: Final = 60.0


def measures() -> Measures:
    """Read the gauges of the whole installation, and the difference of the clocks. Raises DatabaseError."""
    refresh()
    found, suspects, limited = places(), leases.suspects(), waits_for_limits()
    return (
        ("apflow_queue_depth", "Runs that wait for a worker", leases.waiting().count()),
        ("apflow_queue_oldest_seconds", "How long the oldest of them has waited", leases.longest_wait_seconds()),
        ("apflow_suspected_runs", "Runs that are suspected of killing workers", suspects.count),
        ("apflow_suspected_oldest_seconds", "How long the oldest of them is suspected", suspects.oldest_seconds),
        ("apflow_workers_alive", "Worker processes with a recent heartbeat", found.processes),
        ("apflow_worker_places", "Trees that live workers can run at a time", found.total),
        ("apflow_worker_places_used", "Trees that workers run", found.used),
        ("apflow_limit_waiting", "Tasks and calls of models that wait for a named limit or a pause", limited.waiting),
        ("apflow_limit_oldest_seconds", "How long the first of them has waited", limited.oldest_seconds),
        ("apflow_schedules_overdue", "Schedules that have been due for over a minute", overdue(OVERDUE_SECONDS)),
        ("apflow_database_bytes", "Size of the database", size_bytes()),
        (
            "apflow_clock_offset_seconds",
            "The clock of the database minus that of this machine",
            (database_time() - datetime.now(UTC)).total_seconds(),
        ),
    )


class Installation(Collector):
    """Gauges that no process counts. Without the database there are only its state and the disk of this machine."""

    def __init__(self, read: Callable[[], Measures | None]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        found = self._read()
        yield GaugeMetricFamily(
            "apflow_database_up", "Whether the database answers this machine: 1 or 0", value=found is not None
        )
        free = disk_usage(settings.DATA_DIR).free
        yield GaugeMetricFamily("apflow_disk_free_bytes", "Free space on the disk of the data folder", value=free)
        for name, text, value in found or ():
            yield GaugeMetricFamily(name, text, value=value)


class Processes(Collector):
    """The version of this program, and the resources of its processes on this machine that count something."""

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "apflow_build_info", "The version: always 1", labels=["version", "python", "database"]
        )
        build.add_metric([software_version(), platform.python_version(), connection.vendor], 1)
        yield build
        taken = [each for pid in _pids() if (each := _taken_by(pid))]
        for name, text, value in (
            ("apflow_processes", "Web and worker processes of this machine", len(taken)),
            ("apflow_process_memory_bytes", "Their resident memory", sum(memory for memory, _ in taken)),
            ("apflow_process_open_files", "Their open files and connections", sum(files for _, files in taken)),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class Machine(MultiProcessCollector):
    """Counters of the processes of this machine."""

    def collect(self) -> Any:
        forget_the_dead()
        # A process that starts creates its files before it writes to them; an empty one cannot be read.
        files = [str(path) for path in metrics_folder().glob("*.db") if _size_of(path)]
        return self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]


def begin_at_zero() -> None:
    """Begin the series that are known in advance. Call it when a process starts whose machine is scraped."""
    telemetry.begin(sorted(executor_ids()), statuses=[status.value for status in TERMINAL])
    calls.begin(sorted({*METHODS, *SYSTEM_METHODS}))


def registry(read: Callable[[], Measures | None]) -> CollectorRegistry:
    """Return a registry of all metrics. `read` returns the gauges of the installation, on each scrape."""
    metrics_folder().mkdir(parents=True, exist_ok=True)
    found = CollectorRegistry()
    found.register(Installation(read))
    found.register(Processes())
    Machine(found, str(metrics_folder()))  # type: ignore[no-untyped-call]
    return found


async def metrics(request: HttpRequest) -> HttpResponseBase:
    """`GET /metrics`, for administrators if authentication is on: the metrics cover all users."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise WrongHttpMethod(f"/metrics supports GET, not {request.method}.", methods=("GET", "HEAD"))
        caller = await authenticate(request)
        if not caller.sees_all:
            raise RoleTooLow("Only administrators may read the metrics. Use a read-only API key of an administrator.")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        found = await _measured()
        body = await asyncio.to_thread(lambda: encode(registry(lambda: found)))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    return HttpResponse(body, content_type=content_type, headers={"Cache-Control": "no-store"})


async def _measured() -> Measures | None:
    """Return the gauges of the installation; None if the database does not answer soon."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            return await pools.ready(measures)
    except (DatabaseError, TimeoutError):
        return None


def _measured_here() -> Measures | None:
    try:
        return measures()
    except DatabaseError:
        connection.close()
        return None


def serve_metrics(host: str, port: int) -> None:
    """Serve the metrics and `/health` on a thread, for machines without a web process.

    Raises OSError if the port is in use.
    """
    health = orjson.dumps({"status": "ok", "version": software_version()})  # as the web process replies
    server = MetricsServer(host, port, with_health(make_wsgi_app(registry(_measured_here)), health))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    if settings.APFLOW.auth.is_on and not is_loopback(host):
        log.warning(
            "The metrics on port %s need no token: let only Prometheus reach it (worker.metrics_port)",
            port,
            extra={"event": "metrics.open"},
        )
    log.info(
        "Metrics at http://%s:%s/metrics", f"[{host}]" if ":" in host else host, port, extra={"event": "metrics.served"}
    )


def forget_the_dead() -> None:
    """Delete the gauges of dead processes, such as their running tasks. Their counters are kept."""
    for path in metrics_folder().glob("gauge_live*.db"):
        if not _lives(_pid_of(path.name)):
            path.unlink(missing_ok=True)


def forget_the_past() -> None:
    """Reset all metrics of this machine if no process uses them.

    Call it while no process can start.
    """
    paths = list(metrics_folder().glob("*.db"))
    if not any(_lives(_pid_of(path.name)) for path in paths):
        for path in paths:
            with suppress(FileNotFoundError):
                path.unlink()


def _lives(pid: int) -> bool:
    """Return a process that has ended is still listed until its parent asks how."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # on some systems it may not be asked about another user's
        return True


def _size_of(path: Path) -> int:
    """Return the size in bytes; 0 if another scrape has just deleted the file."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _pids() -> set[int]:
    """Return the ids of the processes of this machine that count something, also of dead ones."""
    return {_pid_of(path.name) for path in metrics_folder().glob("*.db")}


def _taken_by(pid: int) -> tuple[int, int] | None:
    """Return the resident memory in bytes and the open files of a process; None if it has ended, or is another user's."""
    try:
        process = psutil.Process(pid)
        return process.memory_info().rss, process.num_fds()
    except (psutil.Error, ValueError):
        return None


def _pid_of(name: str) -> int:
    found = re.search(r"_(\d+)\.db\Z", name)
    return int(found[1]) if found else -1
