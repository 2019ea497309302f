"""Celery with Valkey as broker and result backend, and one worker.

    python -m benchmarks.peers.systems.celery prefork|gevent CONCURRENCY

The submitter waits for results in threads, for Celery has no asyncio interface.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from celery import Celery, chord
from celery import chain as chain_of

from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, WIDTH, Sizes, Work, main

RESULT_SECONDS: Final = 120
SERVER_URL: Final = os.environ["SERVER_URL"]
app = Celery("benchmark", broker=f"{SERVER_URL}/0", backend=f"{SERVER_URL}/1")
app.conf.update(broker_connection_retry_on_startup=True)


@app.task(name="step")
def step(*results: object) -> int:
    return 1


@app.task(name="join")
def join(results: list[int]) -> int:
    return len(results)


@app.task(name="waiting_step")
def waiting_step(*results: object) -> int:
    time.sleep(WAITING_SECONDS)
    return 1


@contextmanager
def worker(pool: str, concurrency: str) -> Iterator[None]:
    """Run a worker until the block ends."""
    options = ("--pool", pool, "--concurrency", concurrency, "--loglevel", "ERROR")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    command = (sys.executable, "-m", "celery", "--app", f"{__spec__.name}:app", "worker", *options, *quiet)
    with (Path(os.environ["DATA_FOLDER"]) / "worker.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def system(sizes: Sizes) -> AsyncIterator[Work]:
    pool, concurrency = sys.argv[1:3]
    loop = asyncio.get_running_loop()
    with worker(pool, concurrency), ThreadPoolExecutor(WIDTH) as threads, ThreadPoolExecutor(sizes.waiting) as many:

        def call(make: Callable[[], Any], executor: ThreadPoolExecutor) -> asyncio.Future[object]:
            """The signature is made for each call: it keeps the ids of its tasks."""
            return loop.run_in_executor(executor, lambda: make().apply_async().get(timeout=RESULT_SECONDS))

        def waiting() -> asyncio.Future[object]:
            return call(lambda: chain_of(*[waiting_step.s() for _ in range(WAITING_STEPS)]), many)

        yield Work(
            one=lambda: call(step.s, threads),
            chain=lambda: call(lambda: chain_of(*[step.s() for _ in range(sizes.chain)]), threads),
            fan_out=lambda: call(lambda: chord([step.s() for _ in range(sizes.fan_out)], join.s()), threads),
            waiting=None if pool == "prefork" else waiting,
        )


if __name__ == "__main__":
    main(system)
