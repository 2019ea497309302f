"""The pool of a task: that of its params, else of the operator, else of its executor."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings

from aipartnerupflow.executors import Executor, ExecutorError, Json
from tasks.rules.pools import LOOP, POOLS, PROCESS, RAY, named_pool, resources_of

Problem = tuple[str, str]


def pool_name(executor: Executor, params: Mapping[str, Any], *, inputs: Callable[[], Json]) -> str:
    """Return the pool for the task. Without places for processes, what runs there by default runs on the loop.

    Raises ExecutorError if the params ask for what this installation, whose configuration may have
    changed, does not have; and what the executor raises.
    """
    if (named := named_pool(params)) is not None:
        if found := next(problems(params), None):
            raise ExecutorError(f"params.{found[0]} {found[1]}.", permanent=True)
        return named
    config = settings.APFLOW.pools
    chosen: str = chosen_pool(executor.id, params) or executor.pool
    if chosen == executor.pool != LOOP:
        chosen = executor.pool_for(inputs())
    if chosen not in POOLS or (chosen == RAY and config.ray.address is None):
        raise ExecutorError(
            f"Executor '{executor.id}' chose the pool '{chosen}', which does not exist here.", permanent=True
        )
    return LOOP if chosen == PROCESS and not config.process.size else chosen


def chosen_pool(executor_id: str, params: Mapping[str, Any]) -> str | None:
    """Return the pool that well-formed params or the operator choose; None leaves it to the executor."""
    return named_pool(params) or (settings.APFLOW.pools.executors or {}).get(executor_id)


def problems(params: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the fields of well-formed params that this installation can never satisfy, and why."""
    pools = settings.APFLOW.pools
    pool = named_pool(params)
    field = "pool" if params.get("pool") else "resources"
    if pool == PROCESS and not pools.process.size:
        yield field, "cannot be had: the pool 'process' has no places here (pools.process.size is 0)"
    if pool == RAY and pools.ray.address is None:
        yield field, "cannot be had: there is no Ray cluster here (pools.ray.address)"
    if not params.get("resources"):
        return
    if pool not in (PROCESS, RAY):
        yield "resources", f"can only be had in the pools 'process' and 'ray', not in '{pool}'"
        return
    resources, config = resources_of(params), getattr(pools, pool)
    if resources.gpus and pool != RAY:
        yield "resources.gpus", f"can only be had in the pool 'ray', not in '{pool}'"
    for name in ("cpus", "gpus", "memory_mb") if pool == RAY else ("cpus", "memory_mb"):
        wanted, most = getattr(resources, name) or 0, getattr(config, name)
        if wanted > most:
            yield f"resources.{name}", f"must be at most {most} (pools.{pool}.{name}), not {wanted}"
