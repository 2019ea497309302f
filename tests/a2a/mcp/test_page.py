"""The page about MCP is true."""

from pathlib import Path
from typing import Any

import pytest

from a2a.mcp.catalogue import OURS
from a2a.mcp.tools.builtin import builtin_tools
from a2a.mcp.tools.offered import executor_tools
from accounts.callers import LOCAL
from apflow_site.config import load
from tests.documents import text

PAGE = "docs/how-to/mcp.md"


def test_the_operator_offers_executors_as_tools(tmp_path: Path, settings: Any) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text(PAGE, "Offer executors as tools", "yaml"))
    settings.APFLOW = load({"XDG_DATA_HOME": str(tmp_path), "AIPARTNERUPFLOW_CONFIG": str(file)})
    executor_tools.cache_clear()
    try:
        tools = {tool.name: tool for tool in [*executor_tools(), *builtin_tools()]}
    finally:
        executor_tools.cache_clear()
    assert tools["system_info_executor"].hints.reads_only
    assert tools["rest_executor"].hints.destroys


def test_the_page_names_every_tool() -> None:
    rows = (Path(__file__).parents[3] / PAGE).read_text()
    assert [tool.name for tool in [*executor_tools(), *builtin_tools()] if f"\n| `{tool.name}` |" not in rows] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["echo_executor", "no_such_tool", "flow_of_no_one"])
async def test_an_executor_that_is_not_offered_is_no_tool(name: str) -> None:
    assert await OURS.tool(LOCAL, name) is None
