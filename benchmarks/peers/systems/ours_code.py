"""Ours, with the work written as code: workflows whose steps are tasks, run by a worker process."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aipartnerupflow.workflows import gather, step, workflow
from benchmarks.engine import run_to_the_end, working
from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, Sizes, Work, main

MODULE: Final = "benchmarks.peers.systems.ours_code"


@step(idempotent=True)
async def one() -> int:
    return 1


@step(idempotent=True)
async def waiting_one() -> int:
    await asyncio.sleep(WAITING_SECONDS)
    return 1


@workflow
async def chain(steps: int) -> None:
    for _ in range(steps):
        await one()


@workflow
async def fan_out(steps: int) -> None:
    await gather(*(one() for _ in range(steps)))
    await one()


@workflow
async def waiting(steps: int) -> None:
    for _ in range(steps):
        await waiting_one()


@asynccontextmanager
async def ours(sizes: Sizes) -> AsyncIterator[Work]:
    async def run(name: str, steps: int) -> None:
        task = {"id": name, "name": name, "schemas": {"method": f"workflow:{name}"}, "inputs": {"steps": steps}}
        await run_to_the_end([task])

    yield Work(
        one=lambda: run("chain", 1),
        chain=lambda: run("chain", sizes.chain),
        fan_out=lambda: run("fan_out", sizes.fan_out),
        waiting=lambda: run("waiting", WAITING_STEPS),
    )


if __name__ == "__main__":
    os.environ["AIPARTNERUPFLOW_DATA_DIR"] = os.environ["DATA_FOLDER"]
    os.environ["AIPARTNERUPFLOW_EXECUTORS_MODULES"] = MODULE
    if "SERVER_URL" in os.environ:
        os.environ["AIPARTNERUPFLOW_DATABASE_URL"] = os.environ["SERVER_URL"]
    with working():
        main(ours)
