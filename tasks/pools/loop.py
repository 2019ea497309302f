"""The pool `loop`: the event loop of the worker. There are as many places as tasks that a worker runs."""

from typing import Any

from aipartnerupflow.executors import Context, Executor, Json
from tasks.pools.base import Pool, executed


class LoopPool(Pool):
    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        return await executed(executor, inputs, context)
