"""What one worker process has one of: its event loop, its worker and its courier."""

import asyncio
import gc
import os
import signal
from functools import cache

from tasks.worker.webhook_courier import Courier
from tasks.worker.worker import Worker

#: Names the cluster that a worker process belongs to; set by `tasks.worker.cluster`.
CLUSTER_VARIABLE = "APFLOW_INTERNAL_CLUSTER_ID"
GC_THRESHOLDS = (20_000, 20, 20)
"""A tree of a thousand tasks allocates a few ten thousand objects at once, none of which is garbage yet."""


def drain_on_sigterm() -> None:
    """On SIGTERM this process claims nothing more and finishes what it has. Call it in the worker process, at its start."""
    loop, worker = this_process()

    def drain(*_: object) -> None:
        _this_courier().drain()
        loop.call_soon_threadsafe(worker.drain)

    signal.signal(signal.SIGTERM, drain)


@cache
def this_process() -> tuple[asyncio.AbstractEventLoop, Worker]:
    """The loop and the worker of this process."""
    loop = asyncio.new_event_loop()
    # Django's modules live as long as the process: looking through them again and again for garbage costs a tenth of its time.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

    async def make() -> Worker:
        return Worker(cluster_id=os.environ.get(CLUSTER_VARIABLE, ""), on_look=_this_courier().wake)

    return loop, loop.run_until_complete(make())


@cache
def _this_courier() -> Courier:
    """What delivers webhooks in this process, whether it has other work or not."""
    return Courier()
