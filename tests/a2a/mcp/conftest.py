"""A server with authentication whose operator offers some executors as tools."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import LEGACY, MODERN, Client
from tests.servers import EXECUTORS, Server, new_database, running_server
from tests.shared_servers import JWT_SECRET, QUICK_STOP

TOOLS = "approval_executor=additive,echo_executor=read_only,scripted_executor=destructive,sleep_executor=read_only"


@pytest.fixture(scope="package")
def mcp_server() -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_JWT_SECRET": JWT_SECRET,
        "AIPARTNERUPFLOW_MCP_TOOLS": TOOLS,
        "AIPARTNERUPFLOW_MCP_WAIT_SECONDS": "12",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": EXECUTORS,
    }
    with new_database() as database_url, running_server(database_url, env=settings | QUICK_STOP) as server:
        yield server


@pytest.fixture(params=[MODERN, LEGACY])
def alice(mcp_server: Server, request: pytest.FixtureRequest) -> Client:
    """A client of each era."""
    return Client(http=mcp_server.http, version=request.param, token=token_of("alice"))


@pytest.fixture
def modern(mcp_server: Server) -> Client:
    return Client(http=mcp_server.http, token=token_of("alice"))


@pytest.fixture
def legacy(mcp_server: Server) -> Client:
    return Client(http=mcp_server.http, version=LEGACY, token=token_of("alice"))


@pytest.fixture
def bob(alice: Client) -> Client:
    """Another user, with a client of the same era."""
    return replace(alice, token=token_of("bob"))
