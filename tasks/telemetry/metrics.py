"""The counts of a process, for `GET /metrics`. The counts are in files that all processes of the machine share
(prometheus-client's multiprocess mode; the settings say where its files are), so each process answers for all of them, including
dead ones.

Counting is cheap, about 2 µs, and never queries the database. Count an event after its commit.

The files are mapped into memory, and most of each is a hole. If the disk has no room when a process first writes to a page, the kernel
ends the process (SIGBUS). A page is first written when a series begins, so a series begins only while the disk has room: on a full
disk, events that would begin a new one are not counted.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from apflow_site.db.calls import LONG_SECONDS

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
ROOM_BYTES: Final = 4 << 20
"""A new series needs a page or two. The rest is for what other processes write between the check and that moment."""

log = logging.getLogger(__name__)
M = TypeVar("M", Counter, Gauge, Histogram)
T = TypeVar("T")
GROUP: Final = "group"
"""The executor of a task that has none."""
DURATIONS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, float("inf"))
WAITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, float("inf"))
DELIVERY_RESULTS: Final = ("delivered", "retrying", "failed")
MAX_MODELS: Final = 200
"""Clients name models as they like; beyond so many names in one process the rest count together."""
OTHERS: Final = "others"


class NoRoom(Exception):
    """The disk is full, or there is no folder, so the series does not begin: skip the count."""


def metrics_folder() -> Path:
    """Return the folder where the processes of this machine keep their counts."""
    return Path(os.environ[FOLDER_VARIABLE])


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Cache what a function makes, in a way that two threads never make it twice.

    Two metrics of the same name in one process would overwrite each other's counts. An error is not
    cached.
    """
    lock, made = threading.Lock(), list[T]()

    def get() -> T:
        if not made:
            with lock:
                if not made:
                    made.append(make())
        return made[0]

    return get


def own_registry() -> CollectorRegistry:
    """Return a registry for the metrics of this process. Metrics without labels begin when they are made. Raises NoRoom."""
    _require_room()
    return CollectorRegistry()


def series(metric: M, *labels: str) -> M:
    """Return the series of a metric with these labels. Raises NoRoom if it has not begun and cannot begin now."""
    begun: M = _begun(metric, labels)
    return begun


@cache
def _begun(metric: Any, labels: tuple[str, ...]) -> Any:
    _require_room()
    return metric.labels(*labels)


def _require_room() -> None:
    if (
        FOLDER_VARIABLE not in os.environ
    ):  # a process of another project (`aipartnerupflow.django`), which has metrics of its own
        raise NoRoom
    try:
        metrics_folder().mkdir(parents=True, exist_ok=True)
        has_room = shutil.disk_usage(metrics_folder()).free >= ROOM_BYTES
    except OSError:
        has_room = False
    if not has_room:
        _warn_once(metrics_folder())
        raise NoRoom


@cache
def _warn_once(folder: Path) -> None:
    text = "The disk of %s is full: /metrics misses what would begin a new series, until there is room"
    log.warning(text, folder, extra={"event": "metrics.no_room"})


@dataclass(frozen=True, slots=True)
class Metrics:
    """Made when the process first counts something: each metric has a place in a file of the process."""

    created: Counter
    finished: Counter
    duration: Histogram
    queue_wait: Histogram
    limit_waits: Counter
    cache_looks: Counter
    loop_seconds: Counter
    loop_lag: Histogram
    in_progress: Gauge
    events: Counter
    llm_tokens: Counter
    llm_cost: Counter
    deliveries: Counter
    removed: Counter
    firings: Counter
    lateness: Histogram
    pool_places: Gauge
    pool_tasks: Gauge
    pool_started: Counter
    pool_died: Counter
    long_calls: Counter
    turn_wait: Histogram


@once
def _metrics() -> Metrics:
    own = own_registry()
    return Metrics(
        created=Counter("apflow_tasks_created", "Tasks stored", ["executor"], registry=own),
        finished=Counter("apflow_tasks_finished", "Tasks that ended", ["executor", "status"], registry=own),
        duration=Histogram(
            "apflow_task_duration_seconds", "From a task's start to its end", buckets=DURATIONS, registry=own
        ),
        queue_wait=Histogram(
            "apflow_task_queue_wait_seconds",
            "From when a task could start to its start: the wait for a worker, and for a place in it",
            buckets=WAITS,
            registry=own,
        ),
        limit_waits=Counter(
            "apflow_limit_waits",
            "Tasks and calls of models that began to wait for a named limit",
            ["limit"],
            registry=own,
        ),
        cache_looks=Counter(
            "apflow_cache_looks",
            "Tasks with params.cache that took a stored result (hit), or made their calls (miss)",
            ["executor", "outcome"],
            registry=own,
        ),
        loop_seconds=Counter(
            "apflow_loop_seconds", "For how long executors occupied event loops of workers", ["executor"], registry=own
        ),
        loop_lag=Histogram(
            "apflow_loop_lag_seconds", "How late the event loop of a worker answers", buckets=WAITS, registry=own
        ),
        in_progress=Gauge(
            "apflow_tasks_in_progress",
            "Tasks whose executors work now",
            registry=own,
            multiprocess_mode="livesum",
        ),
        events=Counter("apflow_events_published", "Events written to the logs of runs", registry=own),
        llm_tokens=Counter("apflow_llm_tokens", "Tokens that models used", ["provider", "model", "type"], registry=own),
        llm_cost=Counter("apflow_llm_cost_usd", "What models cost, in US dollars", ["provider", "model"], registry=own),
        removed=Counter("apflow_rows_removed", "Rows that housekeeping has removed", ["kind"], registry=own),
        firings=Counter("apflow_schedule_firings", "What schedules did at their times", ["outcome"], registry=own),
        lateness=Histogram(
            "apflow_schedule_lateness_seconds",
            "From when a run of a schedule was due to its start in the queue",
            buckets=WAITS,
            registry=own,
        ),
        pool_places=Gauge(
            "apflow_pool_places",
            "Tasks that may run in a pool at a time",
            ["pool"],
            registry=own,
            multiprocess_mode="livesum",
        ),
        pool_tasks=Gauge(
            "apflow_pool_tasks", "Tasks that run in a pool now", ["pool"], registry=own, multiprocess_mode="livesum"
        ),
        pool_started=Counter("apflow_pool_processes_started", "Processes that a pool has started", registry=own),
        pool_died=Counter("apflow_pool_processes_died", "Processes of a pool that died during a task", registry=own),
        long_calls=Counter(
            "apflow_long_calls", "Database calls of web processes that took 30 ms or more", ["pool"], registry=own
        ),
        turn_wait=Histogram(
            "apflow_turn_wait_seconds",
            "Waits of 30 ms or more of a web process's database calls for the turn of their user",
            ["pool"],
            buckets=WAITS,
            registry=own,
        ),
        deliveries=Counter("apflow_webhook_deliveries", "Tries to deliver to webhooks", ["result"], registry=own),
    )


def begin(executor_ids: Iterable[str], *, statuses: Iterable[str]) -> None:
    """Begin the series that are known in advance at zero: a rate sees only the increase from a value to the next."""
    with suppress(NoRoom):
        for executor_id in (*executor_ids, GROUP):
            series(_metrics().created, executor_id)
            for status in statuses:
                series(_metrics().finished, executor_id, status)
        for result in DELIVERY_RESULTS:
            series(_metrics().deliveries, result)


def created(executor_ids: Iterable[str | None]) -> None:
    """Tasks have been stored, with these executors."""
    with suppress(NoRoom):
        for executor_id in executor_ids:
            series(_metrics().created, executor_id or GROUP).inc()


def finished(executor_id: str | None, status: str, *, seconds: float | None = None) -> None:
    """Count a task that has ended. `seconds` since its start; None: it never started."""
    with suppress(NoRoom):
        if seconds is not None:
            _metrics().duration.observe(seconds)
        series(_metrics().finished, executor_id or GROUP, status).inc()


def waited(seconds: float) -> None:
    """Count the seconds that a task waited for its start."""
    with suppress(NoRoom):
        _metrics().queue_wait.observe(max(0.0, seconds))


def cache_looked(executor_id: str, *, is_hit: bool) -> None:
    """Count a task that took a stored result, or made its call."""
    with suppress(NoRoom):
        series(_metrics().cache_looks, executor_id, "hit" if is_hit else "miss").inc()


def limit_waited(name: str) -> None:
    """Count a task, or a call of a model, that waits for the named limit."""
    with suppress(NoRoom):
        series(_metrics().limit_waits, name).inc()


def occupied(loop_seconds: Mapping[str, float]) -> None:
    """Count the seconds for which executors have occupied the event loop."""
    with suppress(NoRoom):
        for executor_id, seconds in loop_seconds.items():
            series(_metrics().loop_seconds, executor_id).inc(seconds)


def lagged(seconds: float) -> None:
    """Count the seconds that the event loop of a worker took to answer."""
    with suppress(NoRoom):
        _metrics().loop_lag.observe(seconds)


def database_call(pool: str, waited: float, took: float) -> None:
    """Count a database call of a web process that has waited for its turn, or taken, 30 ms or more."""
    with suppress(NoRoom):
        if took >= LONG_SECONDS:
            series(_metrics().long_calls, pool).inc()
        if waited >= LONG_SECONDS:
            series(_metrics().turn_wait, pool).observe(waited)


def one_in_progress() -> AbstractContextManager[object]:
    """Count a task in which an executor works, while the context is entered."""
    try:
        return _metrics().in_progress.track_inprogress()
    except NoRoom:
        return nullcontext()


def published(events: int) -> None:
    with suppress(NoRoom):
        _metrics().events.inc(events)


def llm_used(provider: str, model: str, usage: Mapping[str, Any]) -> None:
    """Count the tokens and the cost of a model call. `usage` is as in a task's `token_usage`."""
    model = _bounded(model)
    with suppress(NoRoom):
        for kind in ("prompt", "completion"):
            series(_metrics().llm_tokens, provider, model, kind).inc(usage.get(f"{kind}_tokens") or 0)
        series(_metrics().llm_cost, provider, model).inc(usage.get("cost_usd") or 0.0)


def delivered(result: str) -> None:
    """Count a delivery of a webhook: `delivered`, `retrying` or `failed`."""
    with suppress(NoRoom):
        series(_metrics().deliveries, result).inc()


def removed(kind: str, rows: int) -> None:
    """Count the rows of a kind that housekeeping has removed."""
    with suppress(NoRoom):
        series(_metrics().removed, kind).inc(rows)


def fired(outcomes: Iterable[str], lateness: Iterable[float]) -> None:
    """Schedules have done so, and have queued runs so many seconds after they were due."""
    with suppress(NoRoom):
        for outcome in outcomes:
            series(_metrics().firings, outcome).inc()
        for seconds in lateness:
            _metrics().lateness.observe(seconds)


def pool(name: str, places: int) -> None:
    """Set the number of places of a pool of this process."""
    with suppress(NoRoom):
        series(_metrics().pool_places, name).set(places)
        series(_metrics().pool_tasks, name).set(0)


def one_in_pool(name: str) -> AbstractContextManager[object]:
    """Count a task that runs in the pool, while the context is entered."""
    try:
        return series(_metrics().pool_tasks, name).track_inprogress()
    except NoRoom:
        return nullcontext()


def process_started() -> None:
    with suppress(NoRoom):
        _metrics().pool_started.inc()


def process_died() -> None:
    """Count a process of a pool that died during a task."""
    with suppress(NoRoom):
        _metrics().pool_died.inc()


@cache
def _known_models() -> set[str]:
    return set()


def _bounded(model: str) -> str:
    known = _known_models()
    if model not in known and len(known) >= MAX_MODELS:
        return OTHERS
    known.add(model)
    return model
