"""The wheel: what is in it, and that it works where nothing of the checkout is."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from aipartnerupflow import __version__
from tests.servers import ROOT
from tests.wheels import environment, our_environment, our_wheel, run_tree, serving

PROJECT = ("a2a", "accounts", "apflow_site", "llmkeys", "tasks", "templates")
ONE_TASK = {"id": "one", "name": "echo_executor", "inputs": {"say": "hello"}}


@pytest.fixture(scope="module")
def wheel() -> Path:
    return our_wheel()


@pytest.fixture(scope="module")
def installed() -> Path:
    return our_environment()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory that has nothing of ours."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def test_the_wheel_puts_only_our_own_name_into_site_packages(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"aipartnerupflow", f"aipartnerupflow-{__version__}.dist-info"}


def test_the_wheel_carries_every_file_of_the_project(wheel: Path) -> None:
    files = [file for name in PROJECT for file in (ROOT / name).rglob("*") if file.is_file() and file.suffix != ".pyc"]
    wanted = {f"aipartnerupflow/_project/{file.relative_to(ROOT).as_posix()}" for file in files}
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("aipartnerupflow/_project/")}
    assert carried == wanted


def test_the_extras_of_the_predecessor_exist(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"aipartnerupflow-{__version__}.dist-info/METADATA").decode()
    extras = {
        line.removeprefix("Provides-Extra: ") for line in metadata.splitlines() if line.startswith("Provides-Extra")
    }
    assert extras >= {"a2a", "all", "cli", "crewai", "llm-key-config", "postgres", "standard"}


def test_the_wheel_says_that_it_has_types(wheel: Path) -> None:
    assert "aipartnerupflow/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_command_works_anywhere(installed: Path, elsewhere: Path) -> None:
    command = [str(installed / "aipartnerupflow"), "version"]
    said = subprocess.run(command, cwd=elsewhere, env=environment(), capture_output=True, text=True, check=True)
    assert said.stdout == f"{__version__}\n"


@pytest.mark.parametrize("name", PROJECT[:-1])
def test_the_project_is_not_importable_by_its_bare_names(installed: Path, elsewhere: Path, name: str) -> None:
    command = [str(installed / "python"), "-c", f"import {name}"]
    said = subprocess.run(command, cwd=elsewhere, env=environment(), capture_output=True, text=True, check=False)
    assert f"No module named '{name}'" in said.stderr


@pytest.mark.nightly
def test_the_installed_server_runs_a_task_on_its_worker(installed: Path, elsewhere: Path, tmp_path: Path) -> None:
    with serving(installed, data_dir=tmp_path / "data", working_dir=elsewhere) as url:
        root = run_tree(url, ONE_TASK)
    assert (root["status"], root["result"]) == ("completed", {"say": "hello"})
