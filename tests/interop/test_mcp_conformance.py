"""The conformance suite of MCP against a server with its fixtures: `make mcp-conformance` shows all that it prints."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.interop.environments import WITH_NODE, node_packages
from tests.servers import Server, new_database, running_server

SECONDS: Final = 600
MANY_ROUNDS: Final = {"input-required-result-non-tool-request"}
"""Prompts ask for nothing."""
ON_THE_STREAM: Final = {
    *("tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"),
    *("resources-subscribe", "resources-unsubscribe"),
}
"""Need requests of the server to the client, or a session."""
EXTENSIONS: Final = {
    "tasks-lifecycle",
    "json-schema-2020-12",
    "http-custom-header-server-validation",
}
"""Not required by the revision; in these a fixture is missing."""
MISSING: Final = {
    "2026-07-28": MANY_ROUNDS | EXTENSIONS,
    "2025-11-25": ON_THE_STREAM,
}


@pytest.fixture(scope="module")
def fixture_server() -> Iterator[Server]:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.a2a.mcp.conformance_settings"}
    with new_database() as database, running_server(database, env=settings, is_forked=False) as server:
        yield server


@pytest.mark.nightly
@pytest.mark.parametrize("revision", list(MISSING))
def test_what_a_revision_requires(fixture_server: Server, tmp_path: Path, revision: str) -> None:
    suite = node_packages(Path(__file__).parent / "mcp_conformance") / "node_modules/.bin/conformance"
    command = ["node", str(suite), "server", "--url", f"{fixture_server.url}/mcp-fixtures", "--requirements", revision]
    done = subprocess.run(
        command, cwd=tmp_path, env=WITH_NODE, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    print(done.stdout)  # noqa: T201  `make mcp-conformance` shows it
    found = {name: mark for mark, name in re.findall(r"^([✓✗]) ([a-z0-9-]+): \d+ passed", done.stdout, re.MULTILINE)}
    assert len(found) > 30, done.stdout + done.stderr
    assert {name for name, mark in found.items() if mark == "✗"} == MISSING[revision]
