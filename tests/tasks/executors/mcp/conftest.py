"""A server of MCP by the official SDK, over HTTP and over pipes, under the names `web` and `pipes`."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from apflow_site.config.mcp_servers import McpServer
from tests.mcp_server import TOKEN, McpSite, running_mcp_server
from tests.sections import replace


@pytest.fixture(scope="session")
def running_mcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpSite]:
    with running_mcp_server(tmp_path_factory.mktemp("mcp")) as site:
        yield site


@pytest.fixture
def mcp_site(running_mcp: McpSite) -> McpSite:
    """A server that has forgotten earlier calls."""
    running_mcp.forget()
    return running_mcp


@pytest.fixture
def configured(mcp_site: McpSite, settings: Settings) -> None:
    """Name the servers in the configuration, as an operator does."""
    configure(
        settings,
        web=McpServer(url=mcp_site.url, headers={"Authorization": f"Bearer {TOKEN}"}),
        pipes=McpServer(command=tuple(mcp_site.command), env=mcp_site.environment),
    )


def configure(settings: Settings, **servers: McpServer) -> None:
    executors = settings.APFLOW.executors
    changed = replace(executors, mcp=replace(executors.mcp, servers=servers))
    settings.APFLOW = replace(settings.APFLOW, executors=changed)
