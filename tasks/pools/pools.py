"""The pools of a worker, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from tasks.pools.base import LoopPool, Pool
from tasks.pools.process import ProcessPool
from tasks.pools.ray import RayPool
from tasks.pools.thread import ThreadPool
from tasks.rules.pools import LOOP, PROCESS, RAY, THREAD


def make_pools() -> Mapping[str, Pool]:
    """Create the pools of a worker, on its loop."""
    return MappingProxyType(
        {
            LOOP: LoopPool(),
            THREAD: ThreadPool(),
            PROCESS: ProcessPool(),
            RAY: RayPool(),
        }
    )
