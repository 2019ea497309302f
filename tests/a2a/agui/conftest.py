"""A server with authentication whose texts go to a language model: the built-in demo model, or one that writes down what it is asked."""

from collections.abc import Iterator

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.agui.front_end import FrontEnd
from tests.llm_server import LlmServer, llm_server
from tests.servers import MODULES, Server, new_database, running_server
from tests.shared_servers import JWT_SECRET, QUICK_STOP

SETTINGS = {
    "AIPARTNERUPFLOW_JWT_SECRET": JWT_SECRET,
    "AIPARTNERUPFLOW_A2A_TEXT_EXECUTOR": "llm_executor",
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": MODULES,
    "AIPARTNERUPFLOW_EXECUTORS_LLM_TOOLS": "echo_executor,approval_executor",
}


@pytest.fixture(scope="package")
def agui_server() -> Iterator[Server]:
    settings = SETTINGS | QUICK_STOP | {"AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "demo/demo"}
    with new_database() as database_url, running_server(database_url, env=settings) as server:
        yield server


@pytest.fixture(scope="module")
def listening() -> Iterator[LlmServer]:
    with llm_server() as llm:
        yield llm


@pytest.fixture(scope="module")
def listening_server(listening: LlmServer) -> Iterator[Server]:
    model = {
        "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "openai/gpt-4o-mini",
        "OPENAI_API_KEY": "sk-operator-0123456789",
        "OPENAI_API_BASE": listening.openai_base,
    }
    with new_database() as database_url, running_server(database_url, env=SETTINGS | QUICK_STOP | model) as server:
        yield server


@pytest.fixture
def alice(agui_server: Server) -> FrontEnd:
    return FrontEnd(http=agui_server.http, token=token_of("alice"))


@pytest.fixture
def bob(agui_server: Server) -> FrontEnd:
    return FrontEnd(http=agui_server.http, token=token_of("bob"))
