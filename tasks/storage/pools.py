"""Lanes: the long-lived threads on which async code does its database work.

A thread of its own for every request would mean a database connection for every request. SQLite has one writer at a
time, so a second one would only wait for the lock; PostgreSQL flushes the commits of several writers together.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Final, ParamSpec, TypeVar

from tasks.storage.bulk import IS_SQLITE
from tasks.storage.connections import refresh
from tasks.storage.sqlite_writer import this_write_lane
from tasks.telemetry import tracing

LANES: Final = 1 if IS_SQLITE else 4
P = ParamSpec("P")
T = TypeVar("T")


@cache
def _writers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=LANES, thread_name_prefix="write")


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=LANES, thread_name_prefix="read")


async def write(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a sync service that writes."""
    call = tracing.carried(partial(function, *args, **kwargs))
    if IS_SQLITE:
        result: T = await this_write_lane().run(call)
        return result
    return await _run(_writers(), call)


async def read(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a sync service that only reads."""
    return await _run(_readers(), partial(function, *args, **kwargs))


async def _run(lane: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(lane, _on_a_usable_connection, call)


def _on_a_usable_connection(call: Callable[[], T]) -> T:
    # Outside of Django's request cycle nobody else drops a connection that the server has closed.
    refresh()
    return call()
