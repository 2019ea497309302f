"""Our wheel, environments in which it is installed, and the server that is started there."""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from tests.interop.environments import python_with
from tests.ports import free_port
from tests.servers import ROOT, SHARED_FOLDER, until

OURS: Final = ("AIPARTNERUPFLOW_", "APFLOW_", "DJANGO_", "PYTHONPATH")
RUNTIME: Final = ROOT / "requirements/base.txt"
TOOLS: Final = ("mypy", "pytest")
"""What an author of plug-ins has beside the wheel, in the versions that `DEVELOPMENT` locks."""
DEVELOPMENT: Final = ROOT / "requirements/dev.txt"
START_SECONDS: Final = 120
STOP_SECONDS: Final = 120


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what configures us or lets the checkout be imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | variables


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of a project that is built with hatchling, as the only file of an empty folder."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@cache
def our_wheel() -> Path:
    """Our wheel, built once per pytest process."""
    return build_wheel(ROOT, Path(tempfile.mkdtemp(dir=os.environ[SHARED_FOLDER])))


@cache
def our_environment() -> Path:
    """The `bin` of an environment with our wheel, which borrows its dependencies from the one that runs the tests."""
    folder = Path(tempfile.mkdtemp(dir=os.environ[SHARED_FOLDER]))
    return make_environment(folder, our_wheel(), borrowed=Path(sysconfig.get_path("purelib")))


def locked_packages(name: str, *packages: str) -> Path:
    """The site-packages with these packages, as they are locked, and their dependencies; made once for each version of them."""
    return site_packages(python_with(name, *_locked(packages)).parents[1])


def _locked(packages: Iterable[str]) -> list[str]:
    return re.findall(rf"^((?:{'|'.join(packages)})==\S+)", DEVELOPMENT.read_text(), re.MULTILINE)


def author_packages() -> Path:
    """The site-packages with the wheel's dependencies, as they are locked, and the tools of an author; made once for each lock."""
    tools = _locked(TOOLS)
    digest = hashlib.sha256(" ".join([RUNTIME.read_text(), *tools]).encode()).hexdigest()[:12]
    python = python_with(f"plugin-author-{digest}", "--requirement", str(RUNTIME), *tools)
    return site_packages(python.parents[1])


def site_packages(environment_folder: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment_folder / "lib" / version / "site-packages"


def make_environment(folder: Path, *wheels: Path, borrowed: Path) -> Path:
    """The `bin` of a new environment that has these wheels, and borrows everything else from the site-packages `borrowed`."""
    commands = folder / "bin"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(folder)], check=True)
    install = [*uv, "pip", "install", "--python", str(commands / "python"), "--no-index", "--no-deps"]
    subprocess.run([*install, *map(str, wheels)], check=True)
    (site_packages(folder) / "borrowed.pth").write_text(str(borrowed))
    return commands


@contextmanager
def serving(commands: Path, *, data_dir: Path, working_dir: Path) -> Iterator[str]:
    """The address of a server that was started by the installed command, as soon as it is healthy."""
    command = [str(commands / "aipartnerupflow"), "serve"]
    with serving_by(command, data_dir=data_dir, working_dir=working_dir, variables=environment()) as url:
        yield url


@contextmanager
def serving_by(command: list[str], *, data_dir: Path, working_dir: Path, variables: dict[str, str]) -> Iterator[str]:
    """The address of the server that this command starts, with `--port` appended, as soon as it is healthy."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_healthy() -> bool:
        assert server.poll() is None, f"It ended with code {server.returncode}"
        with suppress(httpx.TransportError):
            return client.get("/health").is_success
        return False

    own = {"AIPARTNERUPFLOW_DATA_DIR": str(data_dir), "AIPARTNERUPFLOW_SERVER_EXAMPLES": "store"}
    with (
        httpx.Client(base_url=url, timeout=60) as client,
        subprocess.Popen([*command, "--port", str(port)], cwd=working_dir, env=variables | own) as server,
    ):
        try:
            until(is_healthy, seconds=START_SECONDS, what=f"200 from {url}/health", pause_seconds=0.1)
            yield url
            server.terminate()
            server.wait(STOP_SECONDS)
        finally:
            server.kill()


def run_tree(url: str, *tasks: Mapping[str, object]) -> dict[str, object]:
    """Run the tasks on the server, and return the root when the run is over."""
    params = {"tasks": tasks, "wait": True, "wait_timeout_seconds": 110}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": params}
    root: dict[str, object] = httpx.post(f"{url}/tasks", json=call, timeout=120).json()["result"]["task"]
    return root
