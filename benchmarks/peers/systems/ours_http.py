"""Ours over HTTP: `tasks.execute` with `wait`, authenticated, on one web process and one worker process."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.engine import Task, chain, echo, fan_out, waiting_chain
from benchmarks.http import access_token, serving_at
from benchmarks.peers.connections import Connections
from benchmarks.peers.work import Sizes, Work, main


@asynccontextmanager
async def ours_http(sizes: Sizes) -> AsyncIterator[Work]:
    connections = Connections(PORT, token=await asyncio.to_thread(access_token, PORT))

    async def execute(tasks: list[Task]) -> None:
        async with connections.one() as client:
            reply: Any = await client.rpc("tasks.execute", {"tasks": tasks, "wait": True})
        assert reply["status"] == "completed", reply

    one, steps, wide, waiting = [echo("one")], chain(sizes.chain), fan_out(sizes.fan_out), waiting_chain()
    yield Work(
        one=lambda: execute(one),
        chain=lambda: execute(steps),
        fan_out=lambda: execute(wide),
        waiting=lambda: execute(waiting),
    )


if __name__ == "__main__":
    url, folder = os.environ.get("SERVER_URL"), os.environ["DATA_FOLDER"]
    settings = {name: value for name, value in os.environ.items() if name.startswith("AIPARTNERUPFLOW_")}
    with serving_at(url, folder=folder, with_authentication=True, settings=settings) as PORT:
        main(ours_http)
