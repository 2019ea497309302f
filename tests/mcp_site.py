"""A server of MCP for tests: `tests/mcp_server.py`, over HTTP as it runs, and what starts it over pipes.

The SDK takes a second to import, so only the server itself imports it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.fork_server import FORKED_MODULE, FORKS, fork_server
from tests.ports import free_port
from tests.servers import ROOT, until

CALLS: Final = "MCP_CALLS"
"""The environment variable with the file where the tools note what they were called with."""
GATE: Final = "MCP_GATE"
IDEMPOTENCY_KEY: Final = "aipartnerupflow/idempotencyKey"
"""The field of `_meta` with the key of a call."""
TOKEN: Final = "a-token-of-the-operator"
PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class McpSite:
    """A server over HTTP that runs. `folder` has the files of its tools."""

    url: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return environment_in(self.folder) | {FORKS: fork_server("mcp").address, FORKED_MODULE: "tests.mcp_server"}

    @property
    def command(self) -> list[str]:
        """What starts another one, over pipes."""
        return [sys.executable, "-I", "-S", str(ROOT / "tests/forked_command.py")]

    @property
    def calls(self) -> list[Any]:
        return calls_in(self.folder)

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def forget(self) -> None:
        for name in ("calls", "gate"):
            (self.folder / name).unlink(missing_ok=True)


def environment_in(folder: Path) -> dict[str, str]:
    return {CALLS: str(folder / "calls"), GATE: str(folder / "gate"), "PYTHONPATH": str(ROOT), "API_TOKEN": TOKEN}


def calls_in(folder: Path) -> list[Any]:
    """What its tools were called with."""
    file = folder / "calls"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextmanager
def running_mcp_server(folder: Path) -> Iterator[McpSite]:
    """A server over HTTP until the end of the block."""
    port = free_port()
    command = [sys.executable, "-m", "tests.mcp_server", str(port)]
    process = subprocess.Popen(command, env={**os.environ, **environment_in(folder)}, cwd=ROOT)
    try:
        until(lambda: is_up(f"http://127.0.0.1:{port}/mcp"), seconds=60, what="the MCP server answers")
        yield McpSite(url=f"http://127.0.0.1:{port}/mcp", folder=folder)
    finally:
        process.kill()
        process.wait()


def is_up(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code > 0
    return False
