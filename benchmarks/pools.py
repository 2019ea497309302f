"""Benchmark of the pools: what it costs to run a task in a thread or a process instead of on the loop.

    python -m benchmarks.pools [ray]

From the call of a warm pool to the result of an executor that returns its inputs: one at a time (p50,
p95), and tasks/s with 16 in flight. And from the call to the result in a new process: the first one,
which starts the nursery, and the next. Prints a table for docs/benchmarks.md.

With `ray`, on a cluster of two nodes that it starts: 1,000 small functions as tasks of the pool `ray`, and
as plain remote functions of Ray, in turns.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from typing import Any

COUNT = 1000
WIDTH = 16
NEW = 20
ROUNDS = 9
RAY_WIDTH = 100
Call = Callable[[], Awaitable[object]]


async def seconds_of(call: Call) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def one_at_a_time(call: Call) -> list[float]:
    return [await seconds_of(call) for _ in range(COUNT)]


async def in_flight(call: Call, *, width: int = WIDTH) -> float:
    """Return how many calls end per second."""
    left = iter(range(COUNT))

    async def lane() -> None:
        for _ in left:
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(width)))
    return COUNT / (time.perf_counter() - started)


async def measure() -> None:
    from aipartnerupflow.executors.testing import context
    from tasks.executors import get_executor
    from tasks.pools.pools import make_pools
    from tasks.rules.pools import LOOP, PROCESS, THREAD, Resources

    executor, here = get_executor("echo_executor"), context()
    pools = make_pools()

    def call_of(name: str) -> Call:
        async def call() -> object:
            async with pools[name].place(user_id="alice", priority=2, resources=Resources()):
                return await pools[name].execute(executor, {"message": "hello"}, here)

        return call

    first = await seconds_of(call_of(PROCESS))
    print("| | p50 ms | p95 ms | tasks/s, 16 in flight |\n|---|---:|---:|---:|")
    for name in (LOOP, THREAD, PROCESS):
        call = call_of(name)
        await in_flight(call)
        times = await one_at_a_time(call)
        p95 = statistics.quantiles(times, n=20)[18]
        rate = await in_flight(call)
        print(f"| `{name}` | {statistics.median(times) * 1e3:.2f} | {p95 * 1e3:.2f} | {rate:,.0f} |")
    await pools[PROCESS].close()
    fresh = make_pools()[PROCESS]
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


async def measure_ray() -> None:

    from aipartnerupflow.executors.testing import context
    from tasks.executors import get_executor
    from tasks.pools.pools import make_pools
    from tasks.rules.pools import RAY

    ray: Any = import_module("ray")
    pool, here = make_pools()[RAY], context()
    inputs = {"function": "add", "arguments": {"a": 1}}

    async def ours() -> object:
        return await pool.execute(get_executor("python_executor"), inputs, here)

    await ours()
    plain = ray.remote(max_retries=0)(lambda a, b=1: a + b)

    async def theirs() -> object:
        return await plain.remote(1)

    rates: dict[Call, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS + 1):
        for call, found in rates.items():
            found.append(await in_flight(call, width=RAY_WIDTH))
    ours_rate, plain_rate = (statistics.median(found[1:]) for found in rates.values())  # the first is a warm-up
    print("| | tasks/s |\n|---|---:|")
    print(f"| plain remote functions | {plain_rate:,.0f} |")
    print(f"| pool `ray` | {ours_rate:,.0f} ({ours_rate / plain_rate:.2f}) |")
    await pool.close()


def run_on_ray() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    os.environ |= {
        "AIPARTNERUPFLOW_POOLS_RAY_ADDRESS": cluster.address,
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.functions_for_tests",
    }
    try:
        run(measure_ray)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import django

    django.setup()
    asyncio.run(work())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "AIPARTNERUPFLOW_DATA_DIR": folder,
            "AIPARTNERUPFLOW_POOLS_PROCESS_SIZE": str(WIDTH),
            "DJANGO_SETTINGS_MODULE": "apflow_site.settings",
        }
        run_on_ray() if "ray" in sys.argv else run(measure)
