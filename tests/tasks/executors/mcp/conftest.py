"""A server of MCP by the official SDK, over HTTP and over pipes, under the names `web` and `pipes`."""

import json
import sys
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from apflow_site.config.mcp_servers import McpServer
from tests.documents import text
from tests.llm_site import LlmSite, running_llm_site
from tests.mcp_site import TOKEN, McpSite, running_mcp_server
from tests.sections import replace


@pytest.fixture(scope="package")
def running_mcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpSite]:
    with running_mcp_server(tmp_path_factory.mktemp("mcp")) as site:
        yield site


@pytest.fixture(scope="package")
def mcp_llm_site(running_mcp: McpSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmSite]:
    """A server with models and these servers. Both files that use it run in one process (`tests.distribution`)."""
    program = tmp_path_factory.mktemp("stock") / "stock_server.py"
    program.write_text(text("docs/how-to/call-mcp-servers.md", "Configure servers", "python"))
    servers = {
        "stock": {"command": [sys.executable, str(program)]},
        "web": {"url": running_mcp.url, "headers": {"Authorization": f"Bearer {TOKEN}"}},
        "pipes": {"command": running_mcp.command, "env": running_mcp.environment},
        "down": {"url": "http://127.0.0.1:1/mcp"},
    }
    with running_llm_site({"AIPARTNERUPFLOW_EXECUTORS_MCP_SERVERS": json.dumps(servers)}) as site:
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
