"""LangGraph with checkpoints in PostgreSQL: graphs run in the process that invokes them.

    python -m benchmarks.peers.systems.langgraph sync|async

With `sync`, a checkpoint is stored before the next step starts; with `async`, LangGraph's default, meanwhile.
"""

import asyncio
import operator
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Annotated, Any, Protocol, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, Sizes, Work, main


class Number(TypedDict):
    number: int


class Step(Protocol):
    async def __call__(self, state: Number) -> dict[str, Any]: ...


class Parts(TypedDict):
    parts: Annotated[list[int], operator.add]


async def step(state: Number) -> dict[str, Any]:
    return {"number": 1}


async def waiting_step(state: Number) -> dict[str, Any]:
    await asyncio.sleep(WAITING_SECONDS)
    return {"number": 1}


async def part(state: Parts) -> dict[str, Any]:
    return {"parts": [1]}


async def join(state: Parts) -> dict[str, Any]:
    return {}


def chain(length: int, function: Step, saver: Any) -> Any:
    graph = StateGraph(Number)
    names = [START, *(f"step{number}" for number in range(length)), END]
    for name in names[1:-1]:
        graph.add_node(name, function)
    for before, name in pairwise(names):
        graph.add_edge(before, name)
    return graph.compile(checkpointer=saver)


def fan_out(width: int, saver: Any) -> Any:
    graph = StateGraph(Parts)
    graph.add_node("part", part)
    graph.add_node("join", join)
    graph.add_conditional_edges(START, lambda state: [Send("part", state)] * width, ["part"])
    graph.add_edge("part", "join")
    graph.add_edge("join", END)
    return graph.compile(checkpointer=saver)


@asynccontextmanager
async def system(sizes: Sizes) -> AsyncIterator[Work]:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(os.environ["SERVER_URL"], min_size=4, max_size=20, kwargs=options) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        one, steps = chain(1, step, saver), chain(sizes.chain, step, saver)
        waiting, wide = chain(WAITING_STEPS, waiting_step, saver), fan_out(sizes.fan_out, saver)

        async def invoke(graph: Any, state: dict[str, Any]) -> None:
            config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": 10 * sizes.chain}
            await graph.ainvoke(state, config, durability=sys.argv[1])

        yield Work(
            one=lambda: invoke(one, {"number": 0}),
            chain=lambda: invoke(steps, {"number": 0}),
            fan_out=lambda: invoke(wide, {"parts": []}),
            waiting=lambda: invoke(waiting, {"number": 0}),
        )


if __name__ == "__main__":
    main(system)
