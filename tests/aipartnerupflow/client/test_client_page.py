"""docs/how-to/python-client.md: its programs run, and its tables name what is there."""

import re
import subprocess
import sys

from aipartnerupflow import client
from aipartnerupflow.client import AsyncClient, Client, RpcError
from tests.servers import ROOT, Server

PAGE = (ROOT / "docs/how-to/python-client.md").read_text()


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def first_cells(heading: str) -> set[str]:
    """The names in code of the table below a heading, without arguments."""
    table = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def test_the_programs_run_one_after_the_other(server: Server) -> None:
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    program = program.replace("http://localhost:8000", server.url).replace("Client()", f"Client({server.url!r})")
    lines = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[0].startswith("completed {'results': {'")
    assert "completed" in lines and "failed" not in lines
    assert lines[-1] == "final 1.0"


def test_the_table_has_every_method() -> None:
    methods = first_cells("All methods") | {"send", "load"}
    assert public(AsyncClient) - {"aclose"} == public(Client) - {"close"} == methods


def test_the_table_has_every_exception() -> None:
    exceptions = {
        kind.__name__ for kind in vars(client).values() if isinstance(kind, type) and issubclass(kind, RpcError)
    }
    named = first_cells("Errors") | set(re.findall(r"`(TimedOut|RpcError)`", PAGE))
    assert exceptions == named
