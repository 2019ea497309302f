"""How fast the machine is at the moment, in figures that depend on no system."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from benchmarks.http import BARE, Ask, Client, per_second, serving_bare, task
from benchmarks.peers.work import WIDTH, Figures

LOOPS: Final = 5_000_000
SECONDS: Final = 1.0
BLOCK: Final = bytes(4096)


def measure_machine(folder: Path) -> Figures:
    """Flushes are measured in the folder in which the systems keep their data."""
    return {
        f"{BARE}, requests/s": bare_route(),
        "fsyncs/s": fsyncs(folder),
        "Python loop, million additions/s": python_loop(),
    }


def bare_route() -> float:
    """The requests per second of a bare ASGI route that runs one SELECT, with 16 in flight."""
    with serving_bare() as port:
        return asyncio.run(_requests(port))


async def _requests(port: int) -> float:
    get: Ask = lambda one: one.rpc("tasks.get", {"task_id": "the-task", "tasks": [task()]})  # noqa: E731
    return await per_second(get, [await Client.connected(port) for _ in range(WIDTH)])


def fsyncs(folder: Path) -> float:
    """Blocks of 4 KiB per second that are appended to a file and flushed one by one."""
    with (folder / "fsyncs").open("wb", buffering=0) as file:
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS:
            file.write(BLOCK)
            os.fsync(file.fileno())
            count += 1
        return count / (time.perf_counter() - started)


def python_loop() -> float:
    started, total = time.perf_counter(), 0
    for number in range(LOOPS):
        total += number
    return LOOPS / 1e6 / (time.perf_counter() - started)
