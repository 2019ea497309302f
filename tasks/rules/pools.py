"""Pools: the names of the places where the work of tasks runs, and what a task may ask of them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LOOP: Final = "loop"
THREAD: Final = "thread"
PROCESS: Final = "process"
RAY: Final = "ray"
POOLS: Final = (LOOP, THREAD, PROCESS, RAY)
NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """`params.resources` of a task: what is reserved for it, and the most memory that it may take."""

    cpus: int = 0
    gpus: int = 0
    memory_mb: int | None = None


def named_pool(params: Mapping[str, Any]) -> str | None:
    """Return the pool that the params of a task name; None leaves it to the executor.

    Resources alone mean `ray` if GPUs are among them, and else `process`.
    """
    pool = params.get("pool")
    if pool is None and (resources := params.get("resources")):
        return RAY if resources.get("gpus") else PROCESS
    return pool


def resources_of(params: Mapping[str, Any]) -> Resources:
    return Resources(**params.get("resources") or NOTHING)
