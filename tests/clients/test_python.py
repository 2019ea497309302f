"""The distribution `aipartnerupflow-client`: what is in it, what it needs, and that it works beside the server's package and without."""

import json
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

from aipartnerupflow import __version__
from tests.documents import text
from tests.servers import ROOT, Server
from tests.wheels import build_wheel, environment, locked_packages, make_environment

PROJECT: Final = ROOT / "clients/python"
SOURCES: Final = ROOT / "aipartnerupflow/client"
ASYNC: Final = """
import asyncio
from aipartnerupflow_client import AsyncClient, NotFound

async def main():
    async with AsyncClient("{url}") as client:
        run = await client.start([{{"name": "sleep_executor", "inputs": {{"seconds": 0.1, "steps": 2}}}}])
        print((await run.wait())["run_status"])
        try:
            await client.get("no-such-task")
        except NotFound as error:
            print(error.code)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(PROJECT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel, and httpx with what that needs; nothing else."""
    return make_environment(tmp_path_factory.mktemp("slim"), wheel, borrowed=locked_packages("client", "httpx"))


def printed(commands: Path, program: str, folder: Path) -> str:
    command = [str(commands / "python"), "-I", "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_the_same_files_under_its_own_name(wheel: Path) -> None:
    files = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("aipartnerupflow_client-")}
    assert files == {f"aipartnerupflow_client/{path.name}" for path in SOURCES.iterdir() if path.is_file()}
    assert "aipartnerupflow_client/py.typed" in files
    for path in SOURCES.glob("*.py"):
        assert "import aipartnerupflow" not in path.read_text() and "from aipartnerupflow" not in path.read_text()


def test_its_version_and_its_needs_are_those_of_the_server() -> None:
    own, server = (tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (PROJECT, ROOT))
    assert own["version"] == __version__
    assert own["dependencies"] == [need for need in server["dependencies"] if need.startswith("httpx")]
    assert (PROJECT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert json.loads((ROOT / "clients/typescript/package.json").read_text())["version"] == __version__


def test_it_runs_a_tree_without_the_server_being_installed(commands: Path, open_server: Server, tmp_path: Path) -> None:
    program = text("clients/python/README.md", "aipartnerupflow-client", "python")
    said = printed(commands, program.replace("http://localhost:8000", open_server.url), tmp_path).splitlines()
    assert (said[0], said[-2].split()[1], said[-1]) == ("1 task_start", "final", "{'say': 'hello'}")
    assert printed(commands, ASYNC.format(url=open_server.url), tmp_path) == "completed\n-32001\n"
    imported = "import sys, aipartnerupflow_client; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not {"aipartnerupflow", "django", "tasks"} & set(printed(commands, imported, tmp_path).split())


def test_it_does_not_touch_the_full_package(wheel: Path, tmp_path: Path) -> None:
    full = build_wheel(ROOT, tmp_path / "full")
    files = [set(zipfile.ZipFile(each).namelist()) for each in (wheel, full)]
    assert not files[0] & files[1]
    assert not [name for name in files[1] if name.startswith(("clients/", "aipartnerupflow_client"))]
