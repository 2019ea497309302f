"""Validate inputs against the schema that a user gave: on the loop if it is quick, else in a process.

A schema within the limits of `tasks.rules.schema_cost` can still take minutes for large inputs. The
process has limits of its own, and users take turns for it.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

import orjson

import tasks
from aipartnerupflow.executors import ExecutorError
from tasks.pools.fair_semaphore import FairSemaphore
from tasks.rules.schema import NO_RULE, mismatch
from tasks.rules.schema_cost import CPU_SECONDS, is_light
from tasks.rules.strict_json import Json
from tasks.worker.load_run import LoadedTask

JUDGES: Final = 2
"""Processes that validate inputs at the same time, per worker process."""
WALL_SECONDS: Final = 60
"""The time for a validation on a machine too busy to give it its processor time."""
PACKAGES: Final = str(Path(tasks.__path__[0]).parent)
TOO_LONG: Final = (
    "Validating the inputs against schemas.input_schema takes too long: it was stopped after "
    f"{CPU_SECONDS} s of processor time. Simplify the schema, or send smaller inputs."
)


async def user_mismatch(task: LoadedTask, inputs: Json) -> str | None:
    """Describe why the inputs do not match the task's own schema; None if they match.

    Raises ExecutorError if that takes too long.
    """
    schema = task.schemas.get("input_schema", {})
    if schema in NO_RULE or is_light(schema, inputs):
        return mismatch(schema, inputs)
    async with _judges(asyncio.get_running_loop()).turn(task.user_id, task.priority):
        return await _judged(orjson.dumps([schema, inputs]))


@lru_cache(maxsize=1)
def _judges(_loop: asyncio.AbstractEventLoop) -> FairSemaphore:
    """Return the semaphore of the worker on this loop."""
    return FairSemaphore(JUDGES)


async def _judged(question: bytes) -> str | None:
    try:
        async with asyncio.timeout(WALL_SECONDS), _judge() as judge:
            answer, _ = await judge.communicate(question)
    except TimeoutError:
        raise ExecutorError(TOO_LONG, permanent=True) from None
    if judge.returncode != 0:
        raise ExecutorError(TOO_LONG, permanent=True)
    found: str | None = orjson.loads(answer)
    return found


@asynccontextmanager
async def _judge() -> AsyncIterator[Process]:
    """Start `tasks.rules.schema_cost`; kill it if it is still running at the end."""
    judge = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tasks.rules.schema_cost"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**os.environ, "PYTHONPATH": PACKAGES},
    )
    try:
        yield judge
    finally:
        if judge.returncode is None:
            judge.kill()
            await judge.wait()
