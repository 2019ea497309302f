"""MCP servers called by tasks of a real server: of the configuration, another server of ours, and refusals of requests."""

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.documents import text
from tests.mcp_site import PNG, TOKEN, McpSite
from tests.servers import Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
PAGE: Final = "docs/how-to/call-mcp-servers.md"
EXECUTOR: Final = "mcp_executor"


@pytest.fixture(scope="module")
def site(running_mcp: McpSite, open_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose configuration has two servers by the official SDK, another one of ours, and those of the page."""
    servers: Json = yaml.safe_load(text(PAGE, "Configure servers", "yaml"))["executors"]["mcp"]["servers"]
    program = tmp_path_factory.mktemp("stock") / "stock_server.py"
    program.write_text(text(PAGE, "Configure servers", "python"))
    assert servers["stock"]["command"] == ["/usr/bin/python3", "/srv/stock_server.py"]
    servers["stock"]["command"] = [sys.executable, str(program)]
    servers |= {
        "web": {"url": running_mcp.url, "headers": {"Authorization": f"Bearer {TOKEN}"}},
        "pipes": {"command": running_mcp.command, "env": running_mcp.environment},
        "ours": {"url": f"{open_server.url}/mcp"},
    }
    environment = {
        "AIPARTNERUPFLOW_EXECUTORS_MCP_SERVERS": json.dumps(servers),
        "AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "1",
    }
    with new_database() as url, running_server(url, env=environment) as server:
        yield server


def ended(site: Server, *, pool: str = "loop", **inputs: Any) -> Json:
    task = {"name": "a call", "schemas": {"method": EXECUTOR}, "inputs": inputs, "params": {"pool": pool}}
    task_id = site.rpc("tasks.execute", {"tasks": task})["task_id"]
    site.finished(task_id)
    found: Json = site.rpc("tasks.get", {"task_id": task_id})
    return found


@pytest.mark.parametrize(("server", "pool"), [("web", "loop"), ("pipes", "thread")])
def test_a_tool_is_called_by_a_worker(site: Server, mcp_site: McpSite, server: str, pool: str) -> None:
    done = ended(site, pool=pool, server=server, tool="add", arguments={"a": 2, "b": 3})
    assert (done["status"], done["result"]) == ("completed", {"result": {"sum": 5}})
    assert mcp_site.calls == [["add", 2, 3]]


def test_another_server_of_ours_runs_a_tree(site: Server) -> None:
    tools = ended(site, server="ours", operation="list_tools")["result"]["result"]
    assert "run_tree" in [tool["name"] for tool in tools]
    task = {"name": "hello", "schemas": {"method": "echo_executor"}, "inputs": {"say": "hello"}}
    done = ended(site, server="ours", tool="run_tree", arguments={"tasks": [task]})["result"]["result"]
    assert (done["status"], done["result"]) == ("completed", {"say": "hello"})


def test_what_fails_there_fails_here(site: Server) -> None:
    done = ended(site, server="ours", tool="run_tree", arguments={"tasks": []})
    assert done["status"] == "failed"
    assert done["error"].startswith("The tool 'run_tree' of the MCP server 'ours' failed: ")


def test_cancelling_the_task_cancels_the_call(site: Server, mcp_site: McpSite) -> None:
    call = {"server": "web", "tool": "wait_for_gate", "arguments": {"number": 5}}
    task = {"name": "a call", "schemas": {"method": EXECUTOR}, "inputs": call}
    task_id = site.rpc("tasks.execute", {"tasks": task})["task_id"]
    until(lambda: mcp_site.calls, seconds=60, what="the call")
    site.rpc("tasks.cancel", {"task_id": task_id})
    site.finished(task_id)
    assert site.rpc("tasks.get", {"task_id": task_id})["status"] == "cancelled"
    until(lambda: ["cancelled", 5] in mcp_site.calls, seconds=60, what="the server heard of it")


@pytest.mark.parametrize(
    ("inputs", "field", "reason"),
    [
        ({"server": "wep", "tool": "add"}, "inputs.server", "there is no MCP server 'wep'. Did you mean 'web'?"),
        ({"server": "web"}, "inputs.tool", "the operation call_tool needs it"),
        ({"server": "web", "tool": "add", "operation": "delete"}, "inputs", "do not fit the schema of mcp_executor"),
    ],
)
def test_a_call_that_can_never_work_is_refused(site: Server, inputs: Json, field: str, reason: str) -> None:
    task = {"name": "a call", "schemas": {"method": EXECUTOR}, "inputs": inputs}
    error = site.call("tasks.create", {"tasks": [task]})["error"]
    assert error["code"] == -32602
    problems = {each["field"]: each["reason"] for each in error["data"]}
    assert problems[f"tasks[0].{field}"].startswith(reason)


def test_the_executor_is_listed_and_shows_no_credentials(site: Server) -> None:
    found = site.http.post("/system", json={"jsonrpc": "2.0", "id": 1, "method": "system.executors", "params": {}}).text
    assert EXECUTOR in found
    assert TOKEN not in found


def test_what_the_page_shows_works(site: Server) -> None:
    tasks = json.loads(text(PAGE, "Call a tool", "json"))
    root = site.rpc("tasks.execute", {"tasks": tasks})["root_task_id"]
    site.finished(root)
    results = site.rpc("tasks.get", {"task_id": root})["result"]["results"]
    assert {"text": "12 packets of tea"}.items() <= results["note"].items()


@pytest.mark.parametrize("server", ["web", "pipes"])
def test_pictures_and_resources_become_files(site: Server, server: str) -> None:
    result = ended(site, server=server, tool="picture", save=True)["result"]
    (file,) = result["files"]
    assert (file["name"], file["media_type"]) == ("file.png", "image/png")
    assert site.http.get(f"/files/{file['$file']}").content == PNG
    assert result["content"] == [
        {"type": "text", "text": "a dot"},
        {"type": "image", "mimeType": "image/png", "file": file},
    ]
    assert result["result"] == "a dot"


def test_a_file_of_another_server_of_ours_is_read_and_saved(site: Server, open_server: Server) -> None:
    theirs = open_server.http.post("/files", params={"name": "a.bin"}, content=b"\x00\xff of theirs").json()
    read = {"server": "ours", "operation": "read_resource", "uri": f"files://{theirs['$file']}"}
    (file,) = ended(site, **read, save=True)["result"]["files"]
    assert site.http.get(f"/files/{file['$file']}").content == b"\x00\xff of theirs"
    open_server.rpc("files.delete", {"file_id": theirs["$file"]})
