"""A client of MCP without a token finds out where to get one (RFC 9728), and its token must be meant for this server."""

import re
from collections.abc import Iterator
from time import time

import jwt
import pytest

from tests.a2a.mcp.mcp_client import LEGACY, MODERN, Client
from tests.documents import text
from tests.servers import Server, new_database, running_server
from tests.shared_servers import JWT_SECRET, QUICK_STOP

PAGE = "docs/how-to/mcp.md"
AUDIENCE = "https://flow.example.com/mcp"
WELL_KNOWN = "/.well-known/oauth-protected-resource"

pytestmark = pytest.mark.both_engines_nightly


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(text(PAGE, "Let hosts get tokens", "yaml"))
    settings = {"AIPARTNERUPFLOW_JWT_SECRET": JWT_SECRET, "AIPARTNERUPFLOW_CONFIG": str(file)} | QUICK_STOP
    with new_database() as database, running_server(database, "--no-worker", env=settings) as server:
        yield server


def token_for(audience: str) -> str:
    return jwt.encode({"sub": "alice", "exp": int(time()) + 600, "aud": audience}, JWT_SECRET, algorithm="HS256")


@pytest.mark.parametrize("version", [MODERN, LEGACY])
@pytest.mark.parametrize("token", [None, "wrong", "for another"])
def test_a_host_finds_the_authorization_server(guarded: Server, version: str, token: str | None) -> None:
    sent = token_for("https://elsewhere.example.com") if token == "for another" else token
    refused = Client(http=guarded.http, version=version, token=sent).post("tools/list")
    assert refused.status_code == 401
    found = re.fullmatch('Bearer resource_metadata="(.+)"', refused.headers["www-authenticate"])
    assert found is not None
    assert found[1] == f"{guarded.url}{WELL_KNOWN}/mcp"
    assert guarded.http.get(found[1]).json() == {
        "resource": f"{guarded.url}/mcp",
        "authorization_servers": ["https://login.example.com"],
        "bearer_methods_supported": ["header"],
        "resource_name": "aipartnerupflow",
    }


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_a_token_for_this_server_is_accepted(guarded: Server, version: str) -> None:
    assert Client(http=guarded.http, version=version, token=token_for(AUDIENCE)).result("tools/list")["tools"]


def test_the_server_itself_is_a_resource_too(guarded: Server) -> None:
    assert guarded.http.get(WELL_KNOWN).json()["resource"] == guarded.url
    assert guarded.http.post(WELL_KNOWN).status_code == 405


def test_without_authorization_servers_there_is_no_such_page(mcp_server: Server, open_server: Server) -> None:
    for server in (mcp_server, open_server):
        assert server.http.get(f"{WELL_KNOWN}/mcp").status_code == 404
    assert Client(http=mcp_server.http).post("tools/list").headers["www-authenticate"] == "Bearer"
