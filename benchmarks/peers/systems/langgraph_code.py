"""LangGraph's functional API with checkpoints in PostgreSQL: code runs in the process that invokes it.

    python -m benchmarks.peers.systems.langgraph_code sync|async

With `sync`, a checkpoint is stored before the next step starts; with `async`, meanwhile.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.func import entrypoint, task
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, Sizes, Work, main


@task
async def one() -> int:
    return 1


@task
async def waiting_one() -> int:
    await asyncio.sleep(WAITING_SECONDS)
    return 1


@asynccontextmanager
async def system(sizes: Sizes) -> AsyncIterator[Work]:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(os.environ["SERVER_URL"], min_size=4, max_size=20, kwargs=options) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()

        @entrypoint(checkpointer=saver)
        async def chain(steps: int) -> None:
            for _ in range(steps):
                await one()

        @entrypoint(checkpointer=saver)
        async def fan_out(steps: int) -> None:
            await asyncio.gather(*[one() for _ in range(steps)])
            await one()

        @entrypoint(checkpointer=saver)
        async def waiting(steps: int) -> None:
            for _ in range(steps):
                await waiting_one()

        async def invoke(code: Any, steps: int) -> None:
            config = {"configurable": {"thread_id": uuid.uuid4().hex}}
            await code.ainvoke(steps, config, durability=sys.argv[1])

        yield Work(
            one=lambda: invoke(chain, 1),
            chain=lambda: invoke(chain, sizes.chain),
            fan_out=lambda: invoke(fan_out, sizes.fan_out),
            waiting=lambda: invoke(waiting, WAITING_STEPS),
        )


if __name__ == "__main__":
    main(system)
