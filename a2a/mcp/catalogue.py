"""The catalogue of a server of MCP: tools, resources and prompts, and their sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final

from a2a.mcp.prompts import Flows, Prompts
from a2a.mcp.resources import Resources, Runs
from a2a.mcp.tools.builtin import builtin_tools
from a2a.mcp.tools.executor_tools import executor_tools
from a2a.mcp.tools.flow_tools import FlowTools
from a2a.mcp.tools.tool import Fixed, Source, Tool
from accounts.callers import Caller

PAGE: Final = 50
"""The number of tools in one page of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The tools and resources of a server. If two tools have one name, the one of the first source counts."""

    sources: Sequence[Source]
    resources: Resources
    prompts: Prompts

    async def tools(self, caller: Caller, *, after: str = "") -> list[Tool]:
        """Return a page of the caller's tools by name, after this name; one more than PAGE if there are further ones."""
        pages = [await source.after(caller, after, limit=PAGE + 1) for source in self.sources]
        return list(islice(merge(*pages, key=lambda tool: tool.name), PAGE + 1))

    async def tool(self, caller: Caller, name: str) -> Tool | None:
        """Return the caller's tool of this name, even if the caller's role is too low to call it."""
        for source in self.sources:
            if (found := await source.named(caller, name)) is not None:
                return found
        return None


OURS: Final = Catalogue(
    sources=(Fixed(builtin_tools), Fixed(executor_tools), FlowTools()), resources=Runs(), prompts=Flows()
)
