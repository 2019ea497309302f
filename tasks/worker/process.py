"""The singletons of a worker process: its event loop, its worker and its webhook courier."""

import asyncio
import gc
import os
import signal
from functools import cache

from tasks.worker.webhook_courier import Courier
from tasks.worker.worker import Worker

#: The environment variable with the id of the worker's cluster; set by
#: `tasks.worker.cluster`.
CLUSTER_VARIABLE = "APFLOW_INTERNAL_CLUSTER_ID"
GC_THRESHOLDS = (20_000, 20, 20)
"""A tree of a thousand tasks allocates tens of thousands of objects at once, none of them garbage
yet.
"""


def drain_on_sigterm() -> None:
    """On SIGTERM, claim nothing more and finish the current runs.

    Call it when the worker process starts.
    """
    loop, worker = this_process()

    def drain(*_: object) -> None:
        _this_courier().drain()
        loop.call_soon_threadsafe(worker.drain)

    signal.signal(signal.SIGTERM, drain)


@cache
def this_process() -> tuple[asyncio.AbstractEventLoop, Worker]:
    """Return the loop and the worker of this process."""
    loop = asyncio.new_event_loop()
    # Django's modules live as long as the process; scanning them for garbage again and again costs
    # a tenth of its time.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

    async def make() -> Worker:
        return Worker(cluster_id=os.environ.get(CLUSTER_VARIABLE, ""), on_webhook=_this_courier().wake)

    return loop, loop.run_until_complete(make())


@cache
def _this_courier() -> Courier:
    """Return the courier of this process. It delivers webhooks also while the worker is idle."""
    return Courier()
