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
REVISIONS: Final = ("2026-07-28", "2025-11-25")
SMALL: Final = "65536"
"""The bytes of a reply: the suite asks for a task that fails by an error of the protocol."""


@pytest.fixture(scope="module")
def fixture_server() -> Iterator[Server]:
    settings = {
        "DJANGO_SETTINGS_MODULE": "tests.a2a.mcp.conformance_settings",
        "AIPARTNERUPFLOW_LIMITS_RESPONSE_BYTES": SMALL,
    }
    with new_database() as database, running_server(database, env=settings, is_forked=False) as server:
        yield server


@pytest.mark.nightly
@pytest.mark.parametrize("revision", REVISIONS)
def test_what_a_revision_requires(fixture_server: Server, tmp_path: Path, revision: str) -> None:
    suite = node_packages(Path(__file__).parent / "mcp_conformance") / "node_modules/.bin/conformance"
    command = ["node", str(suite), "server", "--url", f"{fixture_server.url}/mcp-fixtures", "--requirements", revision]
    done = subprocess.run(
        command, cwd=tmp_path, env=WITH_NODE, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    print(done.stdout)  # noqa: T201  `make mcp-conformance` shows it
    found = {name: mark for mark, name in re.findall(r"^([✓✗]) ([a-z0-9-]+): \d+ passed", done.stdout, re.MULTILINE)}
    assert len(found) > 30, done.stdout + done.stderr
    assert {name for name, mark in found.items() if mark == "✗"} == set()


@pytest.mark.nightly
@pytest.mark.parametrize("scenario", ["sep-2640-skills-enumeration", "sep-2640-skills-manifest"])
def test_flows_are_skills(fixture_server: Server, tmp_path: Path, scenario: str) -> None:
    """A check that fails is a warning if the specification says SHOULD: skills are not in `resources/list`."""
    task = {"name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.name}}"}}
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    flow = {"name": "greet-people", "description": 'Says "hello": to people.', "inputs_schema": schema, "tasks": task}
    fixture_server.rpc("flows.save", flow)
    suite = node_packages(Path(__file__).parent / "mcp_conformance") / "node_modules/.bin/conformance"
    command = ["node", str(suite), "server", "--url", f"{fixture_server.url}/mcp", "--scenario", scenario]
    command += ["--spec-version", REVISIONS[0], "--force"]  # an extension is of no revision
    done = subprocess.run(
        command, cwd=tmp_path, env=WITH_NODE, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    print(done.stdout)  # noqa: T201  `make mcp-conformance` shows it
    (passed, total) = re.findall(r"Passed: (\d+)/(\d+), 0 failed", done.stdout)[0]
    assert int(passed) == int(total) > 0, done.stdout + done.stderr
