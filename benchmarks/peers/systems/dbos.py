"""DBOS on PostgreSQL: workflows run in the process that starts them, which is the fastest way that it has."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbos import DBOS

from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, Sizes, Work, main


@DBOS.step()
async def step() -> int:
    return 1


@DBOS.step()
async def waiting_step() -> int:
    await asyncio.sleep(WAITING_SECONDS)
    return 1


@DBOS.workflow()
async def chain(steps: int) -> None:
    for _ in range(steps):
        await step()


@DBOS.workflow()
async def fan_out(steps: int) -> None:
    await asyncio.gather(*[step() for _ in range(steps)])
    await step()


@DBOS.workflow()
async def waiting(steps: int) -> None:
    for _ in range(steps):
        await waiting_step()


@asynccontextmanager
async def system(sizes: Sizes) -> AsyncIterator[Work]:
    url = os.environ["SERVER_URL"]
    DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    DBOS.launch()
    yield Work(
        one=lambda: chain(1),
        chain=lambda: chain(sizes.chain),
        fan_out=lambda: fan_out(sizes.fan_out),
        waiting=lambda: waiting(WAITING_STEPS),
    )
    DBOS.destroy()


if __name__ == "__main__":
    main(system)
