"""CrewAI's agents delegate by A2A 0.3: its delegation goes its way through a real server."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.interop.environments import python_with, run
from tests.servers import Server

pytestmark = pytest.mark.crews

#: What CrewAI asks for in its extra `a2a`, as far as a client needs it.
NEEDS = ("a2a-sdk[http-server]==0.3.26", "aiocache==0.12.3", "httpx-auth==0.23.1")


@pytest.mark.nightly
def test_crewai_delegates_and_answers_what_it_is_asked(server: Server) -> None:
    crewai = find_spec("crewai")
    assert crewai is not None and crewai.origin is not None
    python = python_with("crewai-a2a-0.3.26", *NEEDS)
    seen = run(python, "client_crewai.py", str(Path(crewai.origin).parents[1]), server.url)
    assert seen == {
        "done": "completed",
        "agent": "aipartnerupflow",
        "asked": "input-required",
        "question": True,
        "answered": True,
    }
