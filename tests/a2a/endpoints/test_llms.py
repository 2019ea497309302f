"""`GET /llms.txt`: what a model reads there is true."""

import json
import re

import httpx
import pytest

from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly


def read(server: Server) -> str:
    response = server.http.get("/llms.txt")
    assert response.headers["Content-Type"] == "text/markdown; charset=utf-8"
    return response.text


def test_the_request_runs_as_it_stands(open_server: Server) -> None:
    text = read(open_server)
    address, body = re.findall(r"```\nPOST (\S+)\n[^\n]+\n\n(.+?)```", text, re.DOTALL)[0]
    answer = httpx.post(address, json=json.loads(body), timeout=60).json()
    assert (answer["result"]["status"], answer["result"]["task"]["result"]) == ("completed", {"say": "hello"})
    assert "No authentication is needed." in text


def test_every_link_leads_somewhere(open_server: Server) -> None:
    links = re.findall(r"^- \[.+?\]\((\S+?)\)", read(open_server), re.MULTILINE)
    assert len(links) == 8
    assert {httpx.get(link, timeout=60).status_code for link in links} <= {200, 405}, (
        "JSON-RPC, MCP and AG-UI take POST"
    )


def test_with_authentication_it_is_public_and_says_so(auth_server: Server) -> None:
    assert "Authorization: Bearer" in read(auth_server)
