"""Every requirement of A2A 1.0 has a test that names it; and those that are about others than this server's answers."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import AsyncClient

from tests.a2a.protocol.test_agent_card import configure
from tests.a2a.requirements import REQUIREMENTS

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))
PROXIES = Path(__file__).parents[3] / "docs/how-to/a2a.md"


def named_in(path: Path) -> Iterator[str]:
    """The ids in all `@pytest.mark.requirement(…)` of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def test_every_requirement_has_a_test_and_no_test_an_unknown_one() -> None:
    assert {requirement for path in TESTS for requirement in named_in(path)} == REQUIREMENTS


def test_the_list_is_whole() -> None:
    assert len(REQUIREMENTS) == 129


@pytest.mark.requirement("AUTH-TLS-001", "AUTH-TLS-002", "AUTH-SERVER-001")
async def test_behind_a_proxy_that_speaks_tls_the_card_leads_nowhere_else(
    async_client: AsyncClient, settings: LazySettings
) -> None:
    """TLS and its certificates are the proxy's: what this server must do is never to lead a client around it."""
    configure(settings, server={"public_url": "https://flow.example"})
    card = (await async_client.get("/.well-known/agent-card.json")).json()
    addresses = [value for value in _texts(card) if value.startswith(("http:", "https:"))]
    assert len(addresses) >= 5
    assert all(address.startswith("https://flow.example") for address in addresses)
    assert "TLS" in PROXIES.read_text()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
