"""Flows as skills. The conformance suite has the rules of the extension (`tests/interop/test_mcp_conformance.py`)."""

import hashlib
from dataclasses import replace

import pytest
import yaml

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import LEGACY, Client, Json
from tests.servers import Server

TASK: Json = {"name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.name}}"}}
SCHEMA: Json = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.fixture
def sally(mcp_server: Server) -> Client:
    return Client(http=mcp_server.http, token=token_of("sally"))


def test_a_flow_is_a_skill_of_its_owner(sally: Client, mcp_server: Server) -> None:
    description = 'Greets: "people" # and 🐈\n---\nname: other'
    flow = {"name": "greet-people", "description": description, "inputs_schema": SCHEMA, "tasks": TASK}
    mcp_server.rpc("flows.save", flow, Authorization=f"Bearer {sally.token}")
    mcp_server.rpc("flows.save", flow | {"name": "No.Skill"}, Authorization=f"Bearer {sally.token}")
    (skill,) = sally.result("skills/list")["skills"]
    assert (skill["uri"], skill["frontmatter"]) == (
        "skill://flows/greet-people/SKILL.md",
        {"name": "greet-people", "description": description},
    )
    assert sally.result("skills/get", {"uri": skill["uri"]})["skill"] == skill
    (content,) = sally.result("resources/read", {"uri": skill["uri"]})["contents"]
    assert content["mimeType"] == "text/markdown"
    head = content["text"].split("\n---\n")[0].removeprefix("---\n")
    assert yaml.safe_load(head) == skill["frontmatter"]
    sent = content["text"].encode()
    assert skill["resources"] == [
        {"uri": skill["uri"], "digest": f"sha256:{hashlib.sha256(sent).hexdigest()}", "size": len(sent)}
    ]


def test_a_skill_of_another_user_is_not_there(sally: Client, mcp_server: Server) -> None:
    flow = {"name": "sallys-own", "tasks": TASK}
    mcp_server.rpc("flows.save", flow, Authorization=f"Bearer {sally.token}")
    other = replace(sally, token=token_of("boris"))
    assert other.result("skills/list")["skills"] == []
    for method in ("skills/get", "resources/read"):
        refused, absent = (
            other.error(method, {"uri": f"skill://flows/{name}/SKILL.md"}) for name in ("sallys-own", "sallys-owm")
        )
        assert str(refused).replace("sallys-own", "sallys-owm") == str(absent)
        assert refused["code"] == -32602


@pytest.mark.parametrize("uri", [5, "", "skill://flows/", "skill://flows/SKILL.md", "skill://flows/a/b/SKILL.md"])
def test_what_is_no_skill_is_refused(sally: Client, uri: object) -> None:
    assert sally.error("skills/get", {"uri": uri})["code"] == -32602


def test_skills_are_of_the_newer_era(sally: Client) -> None:
    assert sally.result("server/discover")["capabilities"]["extensions"]["io.modelcontextprotocol/skills"] == {}
    assert replace(sally, version=LEGACY).error("skills/list")["code"] == -32601
