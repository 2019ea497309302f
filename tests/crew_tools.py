"""Tools that a crew of the tests may use; imported in worker processes only."""

import time

from crewai.tools import BaseTool, tool

lost = None


@tool("length")
def length(text: str) -> str:
    """Counts the characters of a text."""
    return str(len(text))


class WaitTool(BaseTool):
    name: str = "wait"
    description: str = "Takes its time, and cannot be interrupted."

    def _run(self, seconds: float) -> str:
        time.sleep(seconds)
        return "waited"
