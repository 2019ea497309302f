"""The official client of AG-UI goes its way through a real server."""

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
    "steps": ["js-left", "root"],
    "subagent": "js-right",
    "asked": "Publish?",
    "approved": "yes",
    "cancelled": "cancelled",
    "failed": "failed",
    "refused": "invalid_params",
    "call": "clock",
    "agent": ["assistant", "tool", "assistant"],
    "then": "assistant",
}


@pytest.fixture(scope="module")
def chat_server() -> Iterator[Server]:
    with new_database() as database, running_server(database, env=SETTINGS) as server:
        yield server


@pytest.mark.nightly
def test_the_client_for_javascript(chat_server: Server) -> None:
    script = node_packages(Path(__file__).parent / "agui_js") / "client.mjs"
    assert printed("node", str(script), chat_server.url) == SEEN


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
