"""OpenAI's own libraries go their way through a real server; that for Python is the client of `tests/a2a/openai`, too."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.a2a.openai.wire import ASK, ECHO, saved
from tests.documents import text
from tests.interop.environments import node_packages, printed
from tests.servers import Server

PAGE: Final = "docs/how-to/openai-clients.md"
SAID: Final = '{"say":"hello"}'


@pytest.mark.both_engines_nightly
def test_the_library_for_javascript(server: Server) -> None:
    script = node_packages(Path(__file__).parent / "openai_js") / "client.mjs"
    flow, asking = saved(server, ECHO), saved(server, ASK)
    assert printed("node", str(script), server.url, flow, asking) == {
        "text": SAID,
        "first": ["response.created", "response.in_progress"],
        "last": "response.completed",
        "resumed": True,
        "call": "ask",
        "answered": "completed",
        "cancelled": True,
        "completion": SAID,
        "words": SAID,
        "refused": [400, "temperature"],
        "lists": True,
    }
    for model in (flow, asking):
        server.rpc("flows.delete", {"name": model.removeprefix("flow:")})


def test_the_programs_of_the_how_to(server: Server) -> None:
    definition = yaml.safe_load(text("docs/how-to/flows.md", "From the command line", "yaml"))
    server.rpc("flows.save", definition)
    server.rpc("flows.save", {"name": "release", "tasks": [ASK]})
    greeted = printed_by(text(PAGE, "Run a flow", "python"), server)
    assert greeted[0] == '{"text":"Hello Ada","times":1}'
    assert (greeted[1], greeted[-1].split()[1]) == ("0 response.created", "response.completed")
    asked, answered = printed_by(text(PAGE, "Answer questions", "python"), server)
    assert json.loads(asked)["question"] == "Publish?"
    assert json.loads(answered)["answer"] == "yes"
    for name in ("greet", "release"):
        server.rpc("flows.delete", {"name": name})


def printed_by(program: str, server: Server) -> list[str]:
    """Return the lines that a program of the page prints."""
    command = [sys.executable, "-c", program.replace("http://localhost:8000", server.url)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.splitlines()
