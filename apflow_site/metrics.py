"""`GET /metrics`: counters of this machine's processes, and the queue of the installation.

Each machine reports its own counters, so sum them over machines. The gauges of the queue and the
workers cover the installation, so take their maximum (docs/how-to/operate.md).
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from a2a.core.exceptions import WrongHttpMethod
from a2a.core.http import refusal
from accounts.auth import authenticate
from apflow_site.db import pools
from apflow_site.db.connections import refresh
from tasks.queue import leases
from tasks.queue.places import places
from tasks.rules.exceptions import RoleTooLow
from tasks.telemetry.series import metrics_folder


class Installation(Collector):
    """Gauges of the whole installation, read from the database by an index."""

    def collect(self) -> Iterator[Metric]:
        refresh()
        found = places()
        for name, text, value in (
            ("apflow_queue_depth", "Runs that wait for a worker", leases.waiting().count()),
            ("apflow_queue_oldest_seconds", "How long the oldest of them has waited", leases.longest_wait_seconds()),
            ("apflow_workers_alive", "Worker processes with a recent heartbeat", found.processes),
            ("apflow_worker_places", "Trees that live workers can run at a time", found.total),
            ("apflow_worker_places_used", "Trees that workers run", found.used),
        ):
            yield GaugeMetricFamily(name, f"{text}, on all machines", value=value)


class Machine(MultiProcessCollector):
    """Counters of the processes of this machine."""

    def collect(self) -> Any:
        forget_the_dead()
        # A process that starts creates its files before it writes to them; an empty one cannot be read.
        files = [str(path) for path in metrics_folder().glob("*.db") if _size_of(path)]
        return self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]


@cache
def registry() -> CollectorRegistry:
    """The registry of all metrics; collectors read their values on each scrape."""
    metrics_folder().mkdir(parents=True, exist_ok=True)
    found = CollectorRegistry()
    found.register(Installation())
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
        body = await pools.read(lambda: encode(registry()))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    return HttpResponse(body, content_type=content_type, headers={"Cache-Control": "no-store"})


def serve_metrics(host: str, port: int) -> None:
    """Serve the metrics on a thread, for machines without a web process.

    Raises OSError if the port is in use.
    """
    start_http_server(port, host, registry=registry())


def forget_the_dead() -> None:
    """Delete the gauges of dead processes, such as their running tasks. Their counters are kept."""
    for path in metrics_folder().glob("gauge_live*.db"):
        if not psutil.pid_exists(_pid_of(path.name)):
            path.unlink(missing_ok=True)


def forget_the_past() -> None:
    """Reset all metrics of this machine if no process uses them.

    Call it while no process can start.
    """
    paths = list(metrics_folder().glob("*.db"))
    if not any(psutil.pid_exists(_pid_of(path.name)) for path in paths):
        for path in paths:
            with suppress(FileNotFoundError):
                path.unlink()


def _size_of(path: Path) -> int:
    """In bytes; 0 if another scrape has just deleted the file."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _pid_of(name: str) -> int:
    found = re.search(r"_(\d+)\.db\Z", name)
    return int(found[1]) if found else -1
