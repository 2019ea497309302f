"""Pools that the tests of a module share: to start a process costs a second."""

from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
import pytest_asyncio

from tasks.pools.base import Pool
from tasks.pools.pools import make_pools
from tests.servers import EXECUTORS

MODULES = f"{EXECUTORS},tests.functions_for_tests,tests.secret_executors"


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """What the processes are to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPARTNERUPFLOW_EXECUTORS_MODULES", MODULES)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pools(environment: None) -> AsyncIterator[Mapping[str, Pool]]:
    made = make_pools()
    yield made
    for pool in made.values():
        await pool.close()
