"""Where a task runs: what its params say, else the operator, else its executor."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings

from aipartnerupflow.executors import Executor, Json
from tasks.rules.pools import LOOP, PROCESS, named_pool, resources_of

Problem = tuple[str, str]


def pool_name(executor: Executor, params: Mapping[str, Any], *, inputs: Callable[[], Json]) -> str:
    """Return the pool for the task. Without places for processes, what runs there by default runs on the loop."""
    if (named := named_pool(params)) is not None:
        return named
    config = settings.APFLOW.pools
    chosen: str = (config.executors or {}).get(executor.id, executor.pool)
    if chosen == executor.pool != LOOP:
        chosen = executor.pool_for(inputs())
    return LOOP if chosen == PROCESS and not config.process.size else chosen


def problems(params: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the fields of well-formed params that this installation can never satisfy, and why."""
    process = settings.APFLOW.pools.process
    pool, resources = named_pool(params), resources_of(params)
    if pool == PROCESS and not process.size:
        field = "pool" if "pool" in params else "resources"
        yield field, "cannot be had: the pool 'process' has no places here (pools.process.size is 0)"
    if params.get("resources") and pool != PROCESS:
        yield "resources", f"can only be had in the pool 'process', not in '{pool}'"
    if resources.cpus > process.cpus:
        yield "resources.cpus", f"must be at most {process.cpus} (pools.process.cpus), not {resources.cpus}"
    if (resources.memory_mb or 0) > process.memory_mb:
        most = f"must be at most {process.memory_mb} (pools.process.memory_mb)"
        yield "resources.memory_mb", f"{most}, not {resources.memory_mb}"
