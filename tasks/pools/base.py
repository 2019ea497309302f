"""The interface of a pool: a place where executors run."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from aipartnerupflow.executors import Context, Executor, Json
from tasks.rules.pools import Resources


class RaisedElsewhere(Exception):
    """An executor raised an exception in another process. The text is its traceback, for the log."""

    def __init__(self, kind: str, traceback: str) -> None:
        super().__init__(traceback)
        self.kind = kind


async def executed(executor: Executor, inputs: Json, context: Context) -> Any:
    """Execute here and now, after storing that this begins: what every pool calls where the work is done."""
    if not executor.begins_itself:
        await context.begin()
    return await executor.execute(inputs, context)


class Pool(ABC):
    """Runs executors. Adding a pool is a file here, a row in `tasks.pools.choice` and a name in `tasks.rules.pools`."""

    def place(self, *, user_id: str, priority: int, resources: Resources) -> AbstractAsyncContextManager[object]:
        """Wait for a place, in which one task may run."""
        return NO_PLACE

    async def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """End what the pool has started."""

    @abstractmethod
    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        """Execute, in a place, and return the result.

        Raises what the executor raises, except that another exception than ExecutorError, Parked and
        Stopped may come as RaisedElsewhere. If cancelled, the work has stopped at the end.
        """


class _NoPlace(AbstractAsyncContextManager[None]):
    async def __aexit__(self, *_: object) -> None:
        return


NO_PLACE: Final = _NoPlace()


class LoopPool(Pool):
    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        return await executed(executor, inputs, context)


class DemoPool(Pool):
    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        return executor.example_result
