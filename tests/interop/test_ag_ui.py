"""The official clients of AG-UI, 1.0 and the one before it, and CopilotKit go their way through a real server."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.documents import text
from tests.interop.environments import Json, node_packages, printed
from tests.servers import Server, new_database, running_server

SETTINGS: Final = {
    "AIPARTNERUPFLOW_A2A_TEXT_EXECUTOR": "llm_executor",
    "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "demo/demo",
    "AIPARTNERUPFLOW_EXECUTORS_LLM_TOOLS": "echo_executor",
}
SEEN: Final[Json] = {
    "chat": ["user", "assistant", "user", "assistant"],
    "answer": True,
    "tree": ["completed", "completed", "completed"],
    "progress": True,
    "asked": "Publish?",
    "approved": "yes",
    "failed": "failed",
    "refused": "invalid_params",
    "call": "clock",
    "agent": ["assistant", "tool", "assistant"],
    "then": "assistant",
}

SEEN_BY_COPILOTKIT: Final = ["user", "assistant", "tool", "assistant"]


@pytest.fixture(scope="module")
def chat_server() -> Iterator[Server]:
    with new_database() as database, running_server(database, env=SETTINGS) as server:
        yield server


@pytest.mark.nightly
@pytest.mark.parametrize(("library", "cancelled"), [("@ag-ui/client", "cancelled"), ("ag-ui-client-0", "finished")])
def test_the_client_for_javascript(chat_server: Server, library: str, cancelled: str) -> None:
    """Before 1.0 there is no outcome of a cancelled run."""
    script = node_packages(Path(__file__).parent / "agui_js") / "client.mjs"
    name = f"of-{cancelled}"
    seen = SEEN | {"cancelled": cancelled, "steps": [f"{name}-left", "root"], "subagent": f"{name}-right"}
    assert printed("node", str(script), chat_server.url, library, name) == seen


@pytest.mark.nightly
def test_copilotkit(chat_server: Server) -> None:
    """Its core alone, and with its runtime before this server."""
    script = node_packages(Path(__file__).parent / "copilotkit_js") / "client.mjs"
    seen = {"roles": SEEN_BY_COPILOTKIT, "calls": ["clock"], "status": "cancelled", "then": "assistant", "errors": []}
    assert printed("node", str(script), chat_server.url) == {"core": seen, "runtime": seen}


def test_the_program_of_the_how_to(chat_server: Server) -> None:
    folder = node_packages(Path(__file__).parent / "agui_js")
    program = text("docs/how-to/ag-ui.md", "Connect a front end", "javascript")
    script = folder / f"page-{os.getpid()}.mjs"
    script.write_text(
        program.replace("http://localhost:8000", chat_server.url).replace("result)", "JSON.stringify(result))")
    )
    try:
        assert printed("node", str(script)) == {"say": "hello"}
    finally:
        script.unlink()
