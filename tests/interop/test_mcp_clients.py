"""The official clients of MCP, for Python 1.x and 2.x and for JavaScript, go their way through a real server."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.a2a.mcp.test_endpoint import OF_ADMINS
from tests.a2a.mcp.test_endpoint import TOOLS as EVERY_TOOL
from tests.documents import text
from tests.interop.environments import WITH_NODE, Json, node_packages, printed, python_with, run
from tests.ports import free_port
from tests.servers import Server, new_database, running_server

TOOLS: Final = sorted({*EVERY_TOOL, *OF_ADMINS} - {"scripted_executor"})
SEEN: Final[Json] = {
    "tools": TOOLS,
    "quick": {"say": "hello"},
    "slow": "completed",
    "progress": True,
    "wrong": True,
    "asked": "in_progress",
    "approved": "completed",
    "long": "in_progress",
    "cancelled": "cancelled",
    "resource": True,
}
FILE: Final[Json] = {"file": ["text", "image", "resource_link", "AAEC"]}
"""What the clients for Python see of an image: the blocks of the result, and the resource that the last one names."""
SETTINGS: Final = {
    "AIPARTNERUPFLOW_MCP_TOOLS": "approval_executor=additive,echo_executor=read_only,sleep_executor=read_only",
    # The run of two seconds ends within it on a busy machine, too. The call about the run of ten minutes takes that long.
    "AIPARTNERUPFLOW_MCP_WAIT_SECONDS": "20",
}


@pytest.fixture(scope="module")
def tool_server() -> Iterator[Server]:
    with new_database() as database, running_server(database, env=SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def of_2() -> Path:
    return python_with("mcp-2.3.0", "mcp==2.3.0")


def test_the_program_of_the_how_to(tool_server: Server, of_2: Path) -> None:
    program = text("docs/how-to/mcp.md", "Call it from a program", "python").replace(
        "http://localhost:8000", tool_server.url
    )
    done = subprocess.run([of_2, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "{'say': 'hello'}\n"


def test_the_client_of_2(tool_server: Server, of_2: Path) -> None:
    assert run(of_2, "mcp_2.py", f"{tool_server.url}/mcp") == SEEN | FILE


@pytest.mark.nightly
def test_the_client_of_1(tool_server: Server) -> None:
    of_1 = python_with("mcp-1.30.0", "mcp==1.30.0")
    assert run(of_1, "mcp_1.py", f"{tool_server.url}/mcp") == SEEN | FILE | {"elicited": "yes", "ended": 404}


@pytest.mark.nightly
def test_the_client_for_javascript(tool_server: Server) -> None:
    script = node_packages(Path(__file__).parent / "mcp_js") / "client.mjs"
    assert printed("node", str(script), f"{tool_server.url}/mcp") == SEEN | {"ended": 404}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("library", "mode", "resumed"),
    [("1", "", "completed"), ("2", "legacy", "completed"), ("2", "auto", None)],
    ids=["1.x", "2.x of 2025-11-25", "2.x of 2026-07-28"],
)
def test_a_client_for_javascript_aborts_a_call_and_resumes_one_after_a_restart(
    tmp_path: Path, library: str, mode: str, resumed: str | None
) -> None:
    """In 2026-07-28 a cut connection cancels the call: nothing is resumed."""
    script, port = node_packages(Path(__file__).parent / "mcp_js") / "leaving.mjs", free_port()
    command = ["node", str(script), f"http://127.0.0.1:{port}/mcp", library, mode]
    with new_database() as database, ExitStack() as stack:
        with running_server(database, env=SETTINGS, port=port, data_dir=tmp_path) as server:
            start = partial(subprocess.Popen[str], command, env=WITH_NODE, text=True)
            client = stack.enter_context(start(stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert client.stdout is not None
            assert client.stdout.readline() == "going\n"
            server.kill(*(process.pid for process in server.processes()))
        with running_server(database, env=SETTINGS, port=port, data_dir=tmp_path):
            said, _ = client.communicate("go on\n", timeout=240)
    seen = json.loads(said)
    assert (seen["aborted"], seen["ended"], seen.get("resumed")) == (True, "cancelled", resumed)


@pytest.mark.nightly
def test_a_client_goes_on_after_a_restart_of_the_server(of_2: Path) -> None:
    script, port = Path(__file__).parent / "mcp_2_restart.py", free_port()
    command = [str(of_2), "-I", str(script), f"http://127.0.0.1:{port}/mcp"]
    with new_database() as database, ExitStack() as stack:
        with running_server(database, env=SETTINGS, port=port):
            client = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert client.stdout is not None
            assert client.stdout.readline().strip()
        with running_server(database, env=SETTINGS, port=port):
            said, _ = client.communicate("go on\n", timeout=240)
    assert said == "completed\n"
