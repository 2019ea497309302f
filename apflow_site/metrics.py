"""`GET /metrics`: what all processes of this machine have counted, and how long the queue of the whole installation is.

Each machine answers for itself, so that sums over machines are right. The queue and the workers are everybody's: of those take the
greatest (docs/how-to/operate.md).
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
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
from apflow_db import pools
from apflow_db.connections import refresh
from tasks.queue import leases
from tasks.rules.exceptions import RoleTooLow
from tasks.telemetry.series import metrics_folder


class Installation(Collector):
    """What the database knows at once, by an index."""

    def collect(self) -> Iterator[Metric]:
        refresh()
        waiting, workers = leases.waiting().count(), leases.beating_count()
        yield GaugeMetricFamily("apflow_queue_depth", "Runs that wait for a worker, anywhere", value=waiting)
        yield GaugeMetricFamily("apflow_workers_alive", "Worker processes that give signs of life", value=workers)


class Machine(MultiProcessCollector):
    """What the processes of this machine have counted."""

    def collect(self) -> Any:
        forget_the_dead()
        return super().collect()  # type: ignore[no-untyped-call]


@cache
def registry() -> CollectorRegistry:
    """All that there is to tell; it is looked up whenever somebody asks."""
    metrics_folder().mkdir(parents=True, exist_ok=True)
    found = CollectorRegistry()
    found.register(Installation())
    Machine(found, str(metrics_folder()))  # type: ignore[no-untyped-call]
    return found


async def metrics(request: HttpRequest) -> HttpResponseBase:
    """For administrators, with authentication on: the counts tell of everybody."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise WrongHttpMethod(f"/metrics answers GET, not {request.method}.", methods=("GET", "HEAD"))
        caller = await authenticate(request)
        if not caller.sees_all:
            raise RoleTooLow("Only an administrator may read the metrics. A read-only API key of one is enough.")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await pools.read(lambda: encode(registry()))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    return HttpResponse(body, content_type=content_type, headers={"Cache-Control": "no-store"})


def serve_metrics(host: str, port: int) -> None:
    """For a machine that only works: answer scrapes on a thread of their own. Raises OSError when the port is taken."""
    start_http_server(port, host, registry=registry())


def forget_the_dead() -> None:
    """Take out what dead processes say of the present, such as what they work on; what they counted stays."""
    for path in metrics_folder().glob("gauge_live*.db"):
        if not psutil.pid_exists(_pid_of(path.name)):
            path.unlink(missing_ok=True)


def forget_the_past() -> None:
    """Start counting anew, if no process of this machine counts. Call it while no other can begin."""
    paths = list(metrics_folder().glob("*.db"))
    if not any(psutil.pid_exists(_pid_of(path.name)) for path in paths):
        for path in paths:
            with suppress(FileNotFoundError):
                path.unlink()


def _pid_of(name: str) -> int:
    found = re.search(r"_(\d+)\.db\Z", name)
    return int(found[1]) if found else -1
