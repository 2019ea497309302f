"""A server with authentication whose messages go to a language model, and OpenAI's own library as its client."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.a2a.a2a_client import token_of
from tests.lazy_modules import LazyModule
from tests.llm_server import LlmServer, llm_server
from tests.servers import MODULES, Server, new_database, running_server
from tests.shared_servers import JWT_SECRET, QUICK_STOP

openai = LazyModule("openai")
SETTINGS = {
    "AIPARTNERUPFLOW_JWT_SECRET": JWT_SECRET,
    "AIPARTNERUPFLOW_A2A_TEXT_EXECUTOR": "llm_executor",
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.live_workflows",
    "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "openai/gpt-4o-mini",
    "OPENAI_API_KEY": "sk-operator-0123456789",
}
Make = Callable[..., Any]


@pytest.fixture(scope="package")
def provider() -> Iterator[LlmServer]:
    with llm_server() as llm:
        yield llm


@pytest.fixture(scope="package")
def openai_server(provider: LlmServer) -> Iterator[Server]:
    settings = SETTINGS | QUICK_STOP | {"OPENAI_API_BASE": provider.openai_base}
    with new_database() as database_url, running_server(database_url, env=settings) as server:
        yield server


@pytest.fixture
def model(provider: LlmServer) -> LlmServer:
    provider.forget()
    return provider


@pytest.fixture
def client_of(openai_server: Server) -> Iterator[Make]:
    """Make a client for a user."""
    made: list[Any] = []

    def client(user: str, *roles: str) -> Any:
        url, key = f"{openai_server.url}/v1", token_of(user, *roles)
        made.append(openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def alice(client_of: Make) -> Any:
    return client_of("alice")


@pytest.fixture
def bob(client_of: Make) -> Any:
    return client_of("bob")
