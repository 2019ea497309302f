"""How fast the machine is at the moment, in figures that depend on no system."""

import os
import time
from pathlib import Path
from typing import Final

from benchmarks.bare_app import make_database
from benchmarks.http import BARE, DIFFERENT, requests_per_second, rpc, serving_bare
from benchmarks.peers.work import WIDTH, Figures

LOOPS: Final = 5_000_000
SECONDS: Final = 1.0
BLOCK: Final = bytes(4096)


def measure_machine(folder: Path) -> Figures:
    """Flushes are measured in the folder in which the systems keep their data."""
    return {
        f"{BARE}, requests/s": bare_route(folder),
        "fsyncs/s": fsyncs(folder),
        "Python loop, million additions/s": python_loop(),
    }


def bare_route(folder: Path) -> float:
    """The requests per second of a bare ASGI route that runs one SELECT on SQLite, with 16 in flight."""
    database = str(folder / "bare.sqlite3")
    gets = [{"task_id": each} for each in make_database(database, DIFFERENT)]
    with serving_bare(database) as port:
        return requests_per_second(port, rpc("tasks.get", *gets), width=WIDTH)[0]


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
