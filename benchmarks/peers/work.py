"""The work that every system does, and how it is measured.

Imports only the standard library, for it runs in the environment of every system.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from statistics import median
from typing import Final

WIDTH: Final = 16
WARM_UP: Final = 20
CHAINS: Final = 3
WAITING_STEPS: Final = 5
WAITING_SECONDS: Final = 0.1
Call = Callable[[], Awaitable[object]]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each work a round does."""

    singles: int = 200
    in_flight: int = 480
    chain: int = 100
    fan_out: int = 1000
    waiting: int = 500


FULL: Final = Sizes()
QUICK: Final = Sizes(singles=20, in_flight=64, chain=20, fan_out=100, waiting=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How a system does each work once, from submission until the submitter sees its end."""

    one: Call
    chain: Call
    fan_out: Call
    waiting: Call | None
    """None if the system would need a process for each step that waits."""


System = Callable[[Sizes], AbstractAsyncContextManager[Work]]


def main(system: System) -> None:
    """Measure a round of the system, and print the figures as a line of JSON."""
    sizes = QUICK if "--quick" in sys.argv else FULL
    print(json.dumps(asyncio.run(_open_and_measure(system, sizes))), flush=True)


async def _open_and_measure(system: System, sizes: Sizes) -> Figures:
    async with system(sizes) as work:
        return await measure(work, sizes)


async def measure(work: Work, sizes: Sizes) -> Figures:
    await in_flight(work.one, count=WARM_UP, width=1)
    singles = [await seconds_of(work.one) for _ in range(sizes.singles)]
    many = await in_flight(work.one, count=sizes.in_flight, width=WIDTH)
    chains = [await seconds_of(work.chain) for _ in range(CHAINS)]
    fan_out = await seconds_of(work.fan_out)
    figures = {
        "W1 p50 ms": median(singles) * 1e3,
        "W1 runs/s": sizes.in_flight / many,
        "W2 ms/step": median(chains) * 1e3 / sizes.chain,
        "W3 steps/s": (sizes.fan_out + 1) / fan_out,
    }
    if work.waiting:
        figures["W4 s"] = await in_flight(work.waiting, count=sizes.waiting, width=sizes.waiting)
    return figures


async def seconds_of(call: Call) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def in_flight(call: Call, *, count: int, width: int) -> float:
    """Call `count` times, `width` at a time. Returns the seconds for all."""
    left = iter(range(count))

    async def lane() -> None:
        for _ in left:
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(width)))
    return time.perf_counter() - started
