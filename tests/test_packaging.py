"""The wheel: what is in it, and that it works where nothing of the checkout is."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from aipartnerupflow import __version__
from tests.servers import free_port, until

ROOT = Path(__file__).parent.parent
PROJECT = ("a2a", "accounts", "apflow_site", "llmkeys", "tasks", "templates")
ONE_TASK = {"id": "one", "name": "echo_executor", "inputs": {"say": "hello"}}
OURS = ("AIPARTNERUPFLOW_", "APFLOW_", "DJANGO_", "PYTHONPATH")
START_SECONDS = 30
STOP_SECONDS = 40


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what configures us or lets the checkout be imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | variables


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, which borrows its dependencies from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    commands = folder / "bin"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(folder)], check=True)
    install = [*uv, "pip", "install", "--python", str(commands / "python"), "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    borrowed = folder / "lib" / version / "site-packages" / "borrowed.pth"
    borrowed.write_text(sysconfig.get_path("purelib"))
    return commands


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory that has nothing of ours."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@contextmanager
def serving(commands: Path, *, data_dir: Path, working_dir: Path) -> Iterator[str]:
    """The address of a server that was started by the installed command, as soon as it is healthy."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(commands / "aipartnerupflow"), "serve", "--port", str(port)]

    def is_healthy() -> bool:
        assert server.poll() is None, f"It ended with code {server.returncode}"
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/health").is_success
        return False

    settings = environment(AIPARTNERUPFLOW_DATA_DIR=str(data_dir), AIPARTNERUPFLOW_SERVER_EXAMPLES="store")
    with subprocess.Popen(command, cwd=working_dir, env=settings) as server:
        try:
            until(is_healthy, seconds=START_SECONDS, what=f"200 from {url}/health")
            yield url
            server.terminate()
            server.wait(STOP_SECONDS)
        finally:
            server.kill()


def test_the_wheel_puts_only_our_own_name_into_site_packages(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"aipartnerupflow", f"aipartnerupflow-{__version__}.dist-info"}


def test_the_wheel_carries_every_file_of_the_project(wheel: Path) -> None:
    files = [file for name in PROJECT for file in (ROOT / name).rglob("*") if file.is_file() and file.suffix != ".pyc"]
    wanted = {f"aipartnerupflow/_project/{file.relative_to(ROOT).as_posix()}" for file in files}
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("aipartnerupflow/_project/")}
    assert carried == wanted


def test_the_command_works_anywhere(installed: Path, elsewhere: Path) -> None:
    command = [str(installed / "aipartnerupflow"), "version"]
    said = subprocess.run(command, cwd=elsewhere, env=environment(), capture_output=True, text=True, check=True)
    assert said.stdout == f"{__version__}\n"


@pytest.mark.parametrize("name", PROJECT[:-1])
def test_the_project_is_not_importable_by_its_bare_names(installed: Path, elsewhere: Path, name: str) -> None:
    command = [str(installed / "python"), "-c", f"import {name}"]
    said = subprocess.run(command, cwd=elsewhere, env=environment(), capture_output=True, text=True, check=False)
    assert f"No module named '{name}'" in said.stderr


def test_the_installed_server_runs_a_task_on_its_worker(installed: Path, elsewhere: Path, tmp_path: Path) -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks.execute",
        "params": {"tasks": [ONE_TASK], "wait": True},
    }
    with serving(installed, data_dir=tmp_path / "data", working_dir=elsewhere) as url:
        answer = httpx.post(f"{url}/tasks", json=call, timeout=40).json()["result"]
    assert (answer["status"], answer["task"]["result"]) == ("completed", {"say": "hello"})
