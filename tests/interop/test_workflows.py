"""A workflow is started by each interface, with the official clients, and its result comes back as declared."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from aipartnerupflow.client import AsyncClient, Client, InvalidRequest, RunFailed
from tests.interop.environments import python_with, run
from tests.research_workflows import Page, Report, research
from tests.servers import COMMAND, MODULES, Json, Server, environment_of, new_database, running_server, until

WORKFLOW = "workflow:research"
SETTINGS = {
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.research_workflows",
    "AIPARTNERUPFLOW_MCP_TOOLS": f"{WORKFLOW}=additive",
}
TASK: Json = {
    "id": "r",
    "name": "r",
    "schemas": {"method": WORKFLOW},
    "inputs": {"topic": "{{run.inputs.topic}}", "depth": 1},
}
RESULT: Json = {"topic": "rivers", "pages": [{"title": "rivers 1", "words": 100}], "since": None}
REPORT = Report(topic="rivers", pages=[Page(title="rivers 1", words=100)])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database, running_server(database, env=SETTINGS) as server:
        yield server


def test_the_python_client_returns_the_result_as_its_type(server: Server) -> None:
    with Client(server.url) as client:
        started = client.start(research, topic="rivers", depth=1)
        report: Report = started.result()
        assert report == REPORT
        assert client.start(research, "{{x.y}}", 1, date(2026, 1, 31)).result() == Report(
            topic="{{x.y}}", pages=[Page(title="{{x.y}} 1", words=100)], since=date(2026, 1, 31)
        )
        asked = client.start(research, topic="seas", depth=6)
        until(lambda: client.questions()["questions"], seconds=60, what="its question")
        client.answer(f"{asked.task_id}/7", "no")
        with pytest.raises(
            RunFailed, match=r"'research' has failed: research\(\) raised ValueError: too deep"
        ) as failed:
            asked.result()
        assert failed.value.data["id"] == asked.task_id
        with pytest.raises(
            TypeError,
            match=r"test_workflows\.py:\d+: research\(.+\) -> .+ is called wrongly: missing a required argument: 'topic'",
        ):
            client.start(research)  # type: ignore[call-overload]
        with pytest.raises(InvalidRequest):
            client.start([{"name": "x", "schemas": {"method": WORKFLOW}, "inputs": {"topc": "rivers"}}])

    async def main() -> Report:
        async with AsyncClient(server.url) as client:
            return await (await client.start(research, topic="rivers", depth=1)).result()

    assert asyncio.run(main()) == REPORT


def test_it_is_submitted_over_json_rpc_and_rest(server: Server) -> None:
    request = {"tasks": [TASK | {"id": "rpc"}], "run_inputs": {"topic": "rivers"}, "wait": True}
    done = server.rpc("tasks.execute", request)
    assert done["task"]["result"] == RESULT
    assert [child["name"] for child in done["task"]["children"]] == ["fetch"]
    server.http.post("/api/tasks/", json={"tasks": [TASK | {"id": "rest"}]}).raise_for_status()
    posted = server.http.post("/api/tasks/rest/execute/", json={"run_inputs": {"topic": "rivers"}, "wait": True})
    assert posted.json()["task"]["result"] == RESULT, posted.text
    listed = {each["id"]: each for each in server.http.get("/api/executors/").json()}
    assert listed[WORKFLOW]["input_schema"]["required"] == ["topic"]


def test_it_is_a_flow_and_the_target_of_a_schedule(server: Server) -> None:
    with Client(server.url) as client:
        client.save_flow("rivers", [TASK], inputs_schema={"properties": {"topic": {"type": "string"}}})
        assert client.start(flow="rivers", inputs={"topic": "rivers"}).wait()["result"] == RESULT
        schedule = client.create_schedule(flow="rivers", inputs={"topic": "rivers"}, cron="0 6 * * *")
        started = client.trigger_schedule(schedule["id"])["task_id"]
        assert started is not None
        until(lambda: client.tree(started).get("run_status") == "completed", seconds=60, what="its end")
        assert client.tree(started)["result"] == RESULT


def test_the_command_line_runs_it(server: Server) -> None:
    command = [
        *COMMAND,
        "run",
        WORKFLOW,
        "--input",
        "topic=rivers",
        "--input",
        "depth=1",
        "--json",
        "--url",
        server.url,
    ]
    done = subprocess.run(command, env=environment_of("", server.data_dir), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["task"]["result"] == RESULT


def test_the_form_of_the_dashboard_starts_it(server: Server) -> None:
    page = server.http.get(f"/ui/new/?executor={WORKFLOW}").text
    assert all(f'name="in.{name}"' in page for name in ("topic", "depth", "since"))


async def test_it_is_a_tool_of_mcp(server: Server) -> None:
    with Client(server.url) as flows:
        flows.save_flow("tool", [TASK], inputs_schema={"properties": {"topic": {"type": "string"}}}, is_tool=True)
    async with (
        streamable_http_client(f"{server.url}/mcp") as (incoming, outgoing, _),
        ClientSession(incoming, outgoing) as client,
    ):
        await client.initialize()
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        tool = tools["workflow_research"]
        assert (tool.title, tool.description, tool.inputSchema["required"]) == (
            "research",
            "Research a topic.",
            ["topic"],
        )
        for name in ("workflow_research", "flow_tool"):
            arguments: dict[str, Any] = {"topic": "rivers"} | ({"depth": 1} if name == "workflow_research" else {})
            called = await client.call_tool(name, arguments)
            assert called.structuredContent is not None and called.structuredContent["result"] == RESULT
        refused = await client.call_tool("workflow_research", {"topic": "rivers", "dpth": 1})
        assert refused.isError


def test_it_is_a_skill_of_a2a(server: Server) -> None:
    python = python_with("a2a-sdk-1.3.0", "a2a-sdk[grpc]==1.3.0")
    seen = run(python, "workflow_1_0.py", server.url)
    assert seen.pop("skills") == [["research", "Research a topic."]]
    two = RESULT | {"pages": [*RESULT["pages"], {"title": "rivers 2", "words": 200}]}
    for name, result in (("data", RESULT), ("text", two)):
        state, artifacts = seen[name]
        assert (state, result in artifacts) == ("TASK_STATE_COMPLETED", True), artifacts
