"""The singletons of a worker process: its event loop, its worker and its webhook courier."""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Final

from django.db import DatabaseError, connection

from tasks.executors import executor_ids
from tasks.executors.llm import demo
from tasks.executors.llm.loading import load_now
from tasks.models import Usage
from tasks.queue import leases
from tasks.worker.webhook_deliveries import Courier
from tasks.worker.worker import Worker

logger = logging.getLogger(__name__)

LITELLM: Final = "tasks.executors.llm.litellm_calls.ask"
CREWAI: Final = "tasks.executors.crewai.kickoff.kickoff"
LOADED_BY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "batch_crewai_executor": CREWAI,
        "crewai_executor": CREWAI,
        "generate_executor": LITELLM,
        "langgraph_executor": "tasks.executors.langgraph.running.run",
        "llm_executor": LITELLM,
    }
)
"""The function that the first task of an executor loads with `tasks.executors.llm.loading`, and waits for."""
GC_THRESHOLDS = (20_000, 5, 80)
"""A tree of a thousand tasks allocates tens of thousands of objects at once, none of them garbage yet. A collection of the
middle generation stops the process for 30 to 120 ms of processor time; when 20 young ones came before it, four times as long.
"""


def drain_on_sigterm() -> None:
    """On SIGTERM, claim nothing more and finish the current steps; on SIGHUP, finish the current runs.

    Call it when the worker process starts.
    """
    loop, worker = this_process()

    def end_after(finish: Callable[[], None]) -> Callable[..., None]:
        def handle(*_: object) -> None:
            _this_courier().drain()
            loop.call_soon_threadsafe(finish)

        return handle

    signal.signal(signal.SIGTERM, end_after(worker.drain))
    signal.signal(signal.SIGHUP, end_after(worker.retire))


@cache
def this_process() -> tuple[asyncio.AbstractEventLoop, Worker]:
    """Return the loop and the worker of this process."""
    loop = asyncio.new_event_loop()
    # Django's modules live as long as the process; scanning them for garbage again and again costs
    # a tenth of its time.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

    async def make() -> Worker:
        return Worker(cluster_id=os.environ.get(leases.CLUSTER_VARIABLE, ""), on_webhook=_this_courier().wake)

    return loop, loop.run_until_complete(make())


@cache
def warm_up() -> None:
    """Load on a thread, once, what the model calls of yesterday and today needed.

    The first call of this process would wait for it, several seconds. Call it when the process is
    idle. It does nothing on a server that calls no models.
    """
    threading.Thread(target=_load_what_was_used, name="warm-up", daemon=True).start()


def _load_what_was_used() -> None:
    since = datetime.now(UTC).date() - timedelta(days=1)
    calls = Usage.objects.filter(day__gte=since).exclude(model__startswith=demo.PREFIX)
    try:
        used = set(calls.values_list("executor_id", flat=True).distinct())
    except DatabaseError as error:
        logger.info("Nothing is loaded ahead: %s", error)
        return
    finally:
        connection.close()
    for path in sorted({LOADED_BY[executor_id] for executor_id in used & LOADED_BY.keys() & executor_ids()}):
        load_now(path)


@cache
def _this_courier() -> Courier:
    """Return the courier of this process. It delivers webhooks also while the worker is idle."""
    return Courier()
