"""Tools that a crew of the tests may use; imported in worker processes only."""

import os
from pathlib import Path

from crewai.tools import BaseTool, tool

from tests.servers import until

lost = None


@tool("length")
def length(text: str) -> str:
    """Counts the characters of a text."""
    return str(len(text))


@tool("process")
def process() -> str:
    """Says which process it is called in."""
    return str(os.getpid())


class WaitTool(BaseTool):
    name: str = "wait"
    description: str = "Waits for a file, and cannot be interrupted."

    def _run(self, gate: str, begun: str = "") -> str:
        if begun:
            Path(begun).touch()
        until(Path(gate).exists, seconds=600, what="the file")
        return "waited"
