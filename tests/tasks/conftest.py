"""The executors of the tests in the registry, and one worker for all tests of a session."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from pytest_django import Settings

from apflow_site.db import calls
from tests.servers import EXECUTORS
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Stage, opened_stage
from tests.workers import Json, Ran, WorkerThread, run_tree

# As `tests.patient` does for servers; here the workers are of this process.
setattr(calls, "PROBE_SECONDS", 60.0)  # noqa: B010  (it is Final for everybody else)


@pytest.fixture
def test_executors(settings: Settings) -> Iterator[None]:
    settings.APFLOW_EXECUTOR_MODULES = (EXECUTORS,)
    forget_registry()
    yield
    forget_registry()


@pytest.fixture(scope="session")
def one_worker(django_db_setup: None) -> WorkerThread:
    return WorkerThread()


@pytest.fixture
def worker(one_worker: WorkerThread, transactional_db: None, test_executors: None) -> WorkerThread:
    """A worker, on an empty database."""
    return one_worker


@pytest.fixture
def run(worker: WorkerThread) -> Callable[[list[Json]], Ran]:
    """Execute a tree to its end."""
    return partial(run_tree, worker)


@pytest.fixture
def stage(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A place for worker processes that die, one after the other, on one database."""
    with opened_stage(settings, monkeypatch) as stage:
        yield stage
