"""Methods for the cache of results: what is in it, and how it is cleared."""

from a2a.core.mapping import native_time
from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, method
from a2a.methods.params import Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.services.trees import cached_results


class ClearCache(Params, frozen=True, kw_only=True):
    """cache.clear"""

    executor: Text | None = None
    """Only results of its tasks."""
    flow: Text | None = None
    """Only results of runs of this flow."""


class CachedOfExecutor(Response, frozen=True, kw_only=True):
    """The results in the cache of the tasks of an executor: how many, their `bytes`, and when the oldest and the newest was stored."""

    executor: str
    results: int
    bytes: int
    oldest: str
    newest: str


class CachedResults(Response, frozen=True, kw_only=True):
    """The results of the caller's tasks that are in the cache, by executor, the largest first; for administrators those of all users."""

    results: int
    bytes: int
    executors: list[CachedOfExecutor]


class CacheCleared(Response, frozen=True, kw_only=True):
    """The number of results that were removed."""

    removed: int


@method("cache.list", role=VIEWER, answer=CachedResults, rest=[Rest("listCache", "GET cache/")])
def list_cache(caller: Caller, given: Nothing) -> DataResult:
    """Count the results in the cache, by executor."""
    found = cached_results.list_cached(caller)
    executors = [
        each._asdict() | {"oldest": native_time(each.oldest), "newest": native_time(each.newest)} for each in found
    ]
    totals = {"results": sum(each.results for each in found), "bytes": sum(each.bytes for each in found)}
    return DataResult(native={**totals, "executors": executors})


@method("cache.clear", role=OPERATOR, answer=CacheCleared, rest=[Rest("clearCache", "DELETE cache/")])
async def clear_cache(caller: Caller, given: ClearCache) -> DataResult:
    """Remove results from the cache: of an executor, of a flow, or all; for administrators those of all users."""
    removed = await pools.write(cached_results.clear, caller, executor=given.executor, flow=given.flow)
    return DataResult(native={"removed": removed})
