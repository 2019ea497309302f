"""Modules of a user's that have the names of the server's packages: harmless where that can be had, else an error that says what to do."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aipartnerupflow import PROJECT_PACKAGES
from tests.servers import ROOT
from tests.wheels import environment, our_environment, run_tree, serving_by, site_packages

ECHO = {"id": "one", "name": "echo_executor", "inputs": {"say": "hello"}}
LOUD = "raise SystemExit('The module of the user was imported.')\n"
EXECUTOR = """
from aipartnerupflow.executors import Context, Executor, Json

class Greet(Executor):
    id = "greet_executor"
    name = "Greet"
    description = "Greets."

    async def execute(self, inputs: Json, context: Context) -> Json:
        return {"greeting": "hello"}
"""
MANAGER = "from aipartnerupflow.extensions.llm_key_config import LLMKeyConfigManager\nLLMKeyConfigManager()\n"


@pytest.fixture(scope="module")
def installed() -> Path:
    return our_environment()


@pytest.fixture
def working_dir(tmp_path: Path) -> Path:
    """A user's folder with a module or a package of each of the names."""
    folder = tmp_path / "project"
    for name in PROJECT_PACKAGES - {"accounts"}:
        write(folder / f"{name}.py", LOUD)
    write(folder / "accounts/__init__.py", LOUD)
    return folder


def write(file: Path, source: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)


def from_the_checkout(working_dir: Path) -> dict[str, str]:
    """The environment of a user whose working folder is found first, and the checkout after it."""
    return environment(PYTHONPATH=f"{working_dir}:{ROOT}")


def refusal(*command: str, cwd: Path, **variables: str) -> str:
    """What a command writes to stderr before it refuses to go on, with its line breaks taken out."""
    done = subprocess.run(command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["aipartnerupflow", "serve"], id="the command", marks=pytest.mark.nightly),
        pytest.param(["python", "-m", "aipartnerupflow", "serve"], id="python -m, which puts the folder first"),
        pytest.param(
            ["python", "-m", "uvicorn", "aipartnerupflow.api.main:app"],
            id="uvicorn, which does so too",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_the_wheel_serves_and_works_where_the_user_has_such_modules(
    installed: Path, working_dir: Path, tmp_path: Path, command: list[str]
) -> None:
    start = [str(installed / command[0]), *command[1:]]
    with serving_by(start, data_dir=tmp_path / "data", working_dir=working_dir, variables=environment()) as url:
        root = run_tree(url, ECHO)
    assert (root["status"], root["result"]) == ("completed", {"say": "hello"})


@pytest.mark.nightly
def test_the_checkout_serves_and_works_where_the_user_has_such_modules(working_dir: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "aipartnerupflow", "serve"]
    variables = from_the_checkout(working_dir)
    with serving_by(start, data_dir=tmp_path / "data", working_dir=working_dir, variables=variables) as url:
        root = run_tree(url, ECHO)
    assert (root["status"], root["result"]) == ("completed", {"say": "hello"})


@pytest.mark.parametrize(
    "name",
    [
        name if name in {"tasks", "apflow_site"} else pytest.param(name, marks=pytest.mark.nightly)
        for name in sorted(PROJECT_PACKAGES)
    ],
)
def test_a_module_that_is_imported_already_is_named(installed: Path, tmp_path: Path, name: str) -> None:
    write(tmp_path / f"{name}.py", "")
    said = refusal(str(installed / "python"), "-c", f"import {name}\n{MANAGER}", cwd=tmp_path)
    assert f"has a package '{name}' of its own, but another module of this name is imported already" in said
    assert str(tmp_path / f"{name}.py") in said
    assert "Rename your module." in said


def test_a_folder_without_init_that_is_imported_already_is_named(installed: Path, tmp_path: Path) -> None:
    write(tmp_path / "tasks/buy_milk.py", "")
    said = refusal(str(installed / "python"), "-c", f"import tasks.buy_milk\n{MANAGER}", cwd=tmp_path)
    assert f"imported already, from {tmp_path / 'tasks'}. Rename your module." in said


def test_the_command_says_it_in_one_line(installed: Path, tmp_path: Path) -> None:
    write(tmp_path / "tasks.py", "")
    code = "import tasks; from aipartnerupflow.cli import main; main()"
    said = refusal(str(installed / "python"), "-c", code, cwd=tmp_path)
    assert said.startswith("aipartnerupflow has a package 'tasks' of its own")


def test_a_script_of_that_name_is_no_trouble(installed: Path, tmp_path: Path) -> None:
    write(tmp_path / "tasks.py", f"{MANAGER}print('It works.')")
    command = [str(installed / "python"), "tasks.py"]
    variables = environment(AIPARTNERUPFLOW_DATA_DIR=str(tmp_path / "data"))
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "It works.\n"


@pytest.mark.parametrize(
    "name", ["tasks.greet", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("tasks", "a2a"))]
)
def test_a_module_of_executors_cannot_have_such_a_name(installed: Path, tmp_path: Path, name: str) -> None:
    write(tmp_path / f"{name.replace('.', '/')}.py", EXECUTOR)
    top = name.partition(".")[0]
    said = refusal(
        *(str(installed / "python"), "-m", "aipartnerupflow", "serve"),
        cwd=tmp_path,
        AIPARTNERUPFLOW_EXECUTORS_MODULES=name,
        AIPARTNERUPFLOW_DATA_DIR=str(tmp_path / "data"),
    )
    assert (
        f"executors.modules: '{name}' cannot be a plug-in. '{top}' is a package of aipartnerupflow's own server" in said
    )
    assert "Rename your module." in said


@contextmanager
def plugged_in(installed: Path, modules: dict[str, str], *, value: str) -> Iterator[None]:
    """The modules are in the environment, with this entry point, until the end."""
    packages = site_packages(installed.parent)
    info = {
        "greet-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
        "greet-1.0.dist-info/entry_points.txt": f"[aipartnerupflow.executors]\ngreet_executor = {value}\n",
    }
    for name, source in (modules | info).items():
        write(packages / name, source)
    yield
    for top in {packages / name.partition("/")[0] for name in modules | info}:
        if top.is_dir():  # an empty folder could still be imported
            shutil.rmtree(top)
        else:
            top.unlink()


@pytest.mark.parametrize(
    ("modules", "value", "missing"),
    [
        pytest.param({"tasks/greet.py": EXECUTOR}, "tasks.greet:Greet", "tasks.greet", id="its own module"),
        pytest.param(
            {"greet.py": f"from a2a.types import Message\n{EXECUTOR}"},
            "greet:Greet",
            "a2a.types",
            id="the A2A SDK",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            {"greet.py": f"from accounts import Person\n{EXECUTOR}", "accounts.py": "Person = str\n"},
            "greet:Greet",
            "Person",
            id="a name that only its own module has",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_an_installed_plug_in_with_such_a_name_is_named(
    installed: Path, tmp_path: Path, modules: dict[str, str], value: str, missing: str
) -> None:
    with plugged_in(installed, modules, value=value):
        said = refusal(
            str(installed / "aipartnerupflow"), "serve", cwd=tmp_path, AIPARTNERUPFLOW_DATA_DIR=str(tmp_path / "data")
        )
    assert f"Entry point 'greet_executor = {value}' in group aipartnerupflow.executors cannot be loaded" in said
    assert missing in said
    assert "is a package of aipartnerupflow's own server, and is found before any other. Rename your module." in said


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("tasks.messages.understand", "'tasks' is a package of aipartnerupflow's own server"),
        pytest.param(
            "nowhere.understand",
            "Correct the path, or install the package that has it.",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_message_handler_that_cannot_be_imported_stops_the_start(
    installed: Path, tmp_path: Path, path: str, remedy: str
) -> None:
    write(tmp_path / "tasks/messages.py", "")
    said = refusal(
        *(str(installed / "python"), "-m", "aipartnerupflow", "serve"),
        cwd=tmp_path,
        AIPARTNERUPFLOW_A2A_MESSAGE_HANDLER=path,
        AIPARTNERUPFLOW_DATA_DIR=str(tmp_path / "data"),
    )
    assert f"a2a.message_handler: '{path}' cannot be imported: " in said
    assert remedy in said
