"""Every store that keeps keys, one after the other, and a worker that runs trees."""

import os
from collections.abc import Iterator

import pytest
from pytest_django import Settings
from redis import Redis

from llmkeys import stores
from tests.sections import replace
from tests.valkey import valkey_server
from tests.workers import WorkerThread

os.environ.setdefault(
    "LITELLM_LOCAL_MODEL_COST_MAP", "True"
)  # as `llmkeys.model_names` does: tests import LiteLLM by itself


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey of its own."""
    with valkey_server() as server:
        yield server.connection_url


@pytest.fixture(params=[pytest.param("database", marks=pytest.mark.both_engines), "redis", "memory"])
def store(request: pytest.FixtureRequest, settings: Settings, valkey: str, db: None) -> Iterator[str]:
    """A store without keys, and its kind."""
    kind: str = request.param
    settings.APFLOW_LLM = replace(settings.APFLOW_LLM, key_store=kind)
    settings.APFLOW = replace(settings.APFLOW, redis=replace(settings.APFLOW.redis, url=valkey))
    stores.forget()
    yield kind
    Redis.from_url(valkey).flushall()
    stores.forget()


@pytest.fixture(scope="session")
def one_worker(django_db_setup: None) -> WorkerThread:
    return WorkerThread()


@pytest.fixture
def worker(one_worker: WorkerThread, transactional_db: None) -> WorkerThread:
    """A worker, on an empty database."""
    return one_worker
