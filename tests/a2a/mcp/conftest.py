"""A server with authentication whose operator offers some executors as tools."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import LEGACY, MODERN, Client
from tests.servers import MODULES, SAME_KEYS, Server, new_database, running_server
from tests.shared_servers import JWT_SECRET, QUICK_STOP

TOOLS = "approval_executor=additive,echo_executor=read_only,scripted_executor=destructive,sleep_executor=read_only"


@pytest.fixture(scope="package")
def mcp_server() -> Iterator[Server]:
    """It waits for the end of a call's run for longer than a test does."""
    with serving(wait_seconds=110) as server:
        yield server


@pytest.fixture(scope="package")
def hasty_server() -> Iterator[Server]:
    """It returns the run of a call after a few seconds."""
    with serving(wait_seconds=5) as server:
        yield server


@contextmanager
def serving(*, wait_seconds: int) -> Iterator[Server]:
    with new_database() as database_url, running_server(database_url, env=settings_of(wait_seconds)) as server:
        yield server


def settings_of(wait_seconds: int) -> dict[str, str]:
    return (
        {
            "AIPARTNERUPFLOW_JWT_SECRET": JWT_SECRET,
            "AIPARTNERUPFLOW_MCP_TOOLS": TOOLS,
            "AIPARTNERUPFLOW_MCP_WAIT_SECONDS": str(wait_seconds),
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": MODULES,
        }
        | QUICK_STOP
        | SAME_KEYS
    )


@pytest.fixture(params=[MODERN, LEGACY])
def alice(mcp_server: Server, request: pytest.FixtureRequest) -> Client:
    """A client of each era."""
    return Client(http=mcp_server.http, version=request.param, token=token_of("alice"))


@pytest.fixture(params=[MODERN, LEGACY])
def hasty(hasty_server: Server, request: pytest.FixtureRequest) -> Client:
    """A client of each era whose calls end before their runs."""
    return Client(http=hasty_server.http, version=request.param, token=token_of("alice"))


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
