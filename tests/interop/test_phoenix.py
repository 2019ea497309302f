"""Phoenix, an agent tool of another vendor, gets the traces of a server and reads them as agents, model calls and tools."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.documents import text
from tests.interop.environments import python_with
from tests.ports import free_port
from tests.servers import new_database, until
from tests.shell import new_shell

PHOENIX: Final = "arize-phoenix==20.26.1"
Json = dict[str, Any]


@pytest.fixture
def phoenix(tmp_path: Path) -> Iterator[str]:
    command = [str(python_with("phoenix", PHOENIX)), "-m", "phoenix.server.main", "serve"]
    port = free_port()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": port,
        "GRPC_PORT": free_port(),
        "WORKING_DIR": tmp_path,
        "TELEMETRY_ENABLED": False,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS_")}
    environment |= {f"PHOENIX_{name}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: is_up(url), seconds=300, what="Phoenix answers")
        yield url
    finally:
        process.terminate()
        process.wait()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/projects").is_success
    except httpx.TransportError:
        return False


@pytest.mark.nightly
def test_phoenix_shows_an_agent_with_its_model_calls_and_tools(
    phoenix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = text("docs/how-to/telemetry.md", "Phoenix", "sh").replace("http://localhost:6006", phoenix)
    shell = new_shell(tmp_path_factory)
    with new_database() as url, shell.server(f"{script}\naipartnerupflow serve", database=url) as server:
        flow = [{"id": "echo", "name": "echo", "schemas": {"method": "echo_executor"}, "inputs": {"said": "Hello."}}]
        server.rpc("flows.save", {"name": "greet", "tasks": flow})
        inputs = {"prompt": "Greet.", "tools": ["flow:greet"], "model": "demo/x"}
        agent = {"id": "agent", "name": "greeter", "schemas": {"method": "llm_executor"}, "inputs": inputs}
        done = server.rpc("tasks.execute", {"tasks": [agent], "wait": True})
        assert done["status"] == "completed", done

        def spans() -> list[Json]:
            found: list[Json] = httpx.get(f"{phoenix}/v1/projects/default/spans", params={"limit": 100}).json()["data"]
            return found if {"invoke_agent greeter", "chat x"} <= {each["name"] for each in found} else []

        found = until(spans, seconds=60, what="the spans of the agent")
    kinds = {each["name"]: each["span_kind"] for each in found}
    assert (kinds["invoke_agent greeter"], kinds["chat x"], kinds["execute_tool flow:greet"]) == (
        "AGENT",
        "LLM",
        "TOOL",
    )
    (agents,) = (each for each in found if each["name"] == "invoke_agent greeter")
    chats = [each for each in found if each["name"] == "chat x"]
    assert {each["parent_id"] for each in chats} == {agents["context"]["span_id"]}
    assert "llm.input_messages.0.message.content" in chats[0]["attributes"]
    assert (
        len({each["context"]["trace_id"] for each in found if each["name"] in kinds and each in [*chats, agents]}) == 1
    )
