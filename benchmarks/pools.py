"""Benchmark of the pools: what it costs to run a task in a thread or a process instead of on the loop.

    python -m benchmarks.pools

From the call of a warm pool to the result of an executor that returns its inputs: one at a time (p50,
p95), and tasks/s with 16 in flight. And from the call to the result in a new process: the first one,
which starts the nursery, and the next. Prints a table for docs/benchmarks.md.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable

COUNT = 1000
WIDTH = 16
NEW = 20
Call = Callable[[], Awaitable[object]]


async def seconds_of(call: Call) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def one_at_a_time(call: Call) -> list[float]:
    return [await seconds_of(call) for _ in range(COUNT)]


async def in_flight(call: Call) -> float:
    """Return how many calls end per second."""
    left = iter(range(COUNT))

    async def lane() -> None:
        for _ in left:
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(WIDTH)))
    return COUNT / (time.perf_counter() - started)


async def measure() -> None:
    from aipartnerupflow.executors.testing import context
    from tasks.executors import get_executor
    from tasks.pools.pools import make_pools
    from tasks.rules.pools import POOLS, PROCESS, Resources

    executor, here = get_executor("echo_executor"), context()
    pools = make_pools(process_share=WIDTH)

    def call_of(name: str) -> Call:
        async def call() -> object:
            async with pools[name].place(user_id="alice", priority=2, resources=Resources()):
                return await pools[name].execute(executor, {"message": "hello"}, here)

        return call

    first = await seconds_of(call_of(PROCESS))
    print("| | p50 ms | p95 ms | tasks/s, 16 in flight |\n|---|---:|---:|---:|")
    for name in POOLS:
        call = call_of(name)
        await in_flight(call)
        times = await one_at_a_time(call)
        p95 = statistics.quantiles(times, n=20)[18]
        rate = await in_flight(call)
        print(f"| `{name}` | {statistics.median(times) * 1e3:.2f} | {p95 * 1e3:.2f} | {rate:,.0f} |")
    await pools[PROCESS].close()
    fresh = make_pools(process_share=WIDTH)[PROCESS]
    pools = {**pools, PROCESS: fresh}
    await call_of(PROCESS)()
    new = [await new_process(call_of(PROCESS)) for _ in range(NEW)]
    await fresh.close()
    print(f"\nThe first process: {first:.2f} s; a new one after it: {statistics.median(new) * 1e3:.0f} ms.")


async def new_process(call: Call) -> float:
    """Stop a call, after which its process is not used again, and measure the next."""
    stopped = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    stopped.cancel()
    await asyncio.wait([stopped])
    return await seconds_of(call)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "AIPARTNERUPFLOW_DATA_DIR": folder,
            "AIPARTNERUPFLOW_POOLS_PROCESS_SIZE": str(WIDTH),
            "DJANGO_SETTINGS_MODULE": "apflow_site.settings",
        }
        import django

        django.setup()
        asyncio.run(measure())
