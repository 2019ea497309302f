"""A plug-in in a repository of its own, where only the wheel is installed: its tests, its type check, and the server that runs it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.wheels import author_packages, build_wheel, environment, make_environment, our_wheel, run_tree, serving

EXAMPLE = ROOT / "docs/examples/flow-greetings"
MOST_MODULES = 200
"""How many modules the import of the public package may load. Time would depend on what else the machine does."""
MEASURED = """
import os, sys
before = len(sys.modules), list(sys.path), dict(os.environ)
import {module}
print(len(sys.modules) - before[0])
assert sys.path == before[1], "sys.path changed"
assert dict(os.environ) == before[2], "the environment changed"
ours = {{"a2a", "accounts", "apflow_site.db", "apflow_site", "llmkeys", "tasks"}}
print(*sorted(name for name in sys.modules if name.partition(".")[0] in ours | {{"django", "httpx", "pydantic", "uvicorn"}}))
"""
WRONG = """
from aipartnerupflow.a2a import Incoming
from aipartnerupflow.executors import Context, Executor, python_function
from aipartnerupflow.workflows import agent, ask, gather, step, workflow

class Wrong(Executor):
    id = 7

    async def execute(self, inputs: list[str], context: Context) -> str:
        context.report("half", "way")
        response = await context.fetch("GET", "https://example.com/", timeout="1 s")
        return response.body

@python_function
def add(a: int) -> int:
    return a

add("1")
Incoming(message="hello")

@step
def fetch(url: str) -> bytes:
    return b""

@step(retries=3)
async def size(page: bytes, *, most: int = 9) -> int:
    return min(len(page), most)

@workflow
async def total(urls: list[str]) -> int:
    pages = await gather(*(fetch(url) for url in urls), at_most=5)
    await fetch(1)
    await size(pages, most=3)
    await size(pages[0], least=3)
    await fetch.options(key="a", retries="3")("b")
    first, second = await gather(fetch("a"), size(b""))
    number: int = first
    answer: int = await agent("judge", prompt="Is it?", returns=float)
    said: int = await ask("Go on?", options=["yes"])
    return second

async def main() -> str:
    await total("a")
    return await total(urls=["a"])

@workflow
def plain() -> int:
    return 1
"""
WRONG_LINES = {
    7: "assignment",
    9: "override",
    10: "arg-type",
    11: "call-arg",
    12: "return-value",
    18: "arg-type",
    19: "arg-type",
    32: "arg-type",
    33: "arg-type",
    34: "call-arg",
    35: "arg-type",
    37: "assignment",
    38: "arg-type",
    39: "assignment",
    43: "arg-type",
    44: "return-value",
    46: "arg-type",
}
"""The code of the error in each line."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, in which tools may leave their caches."""
    folder = tmp_path_factory.mktemp("repository") / EXAMPLE.name
    return Path(shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".*", "__pycache__")))


@pytest.fixture(scope="module")
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with our wheel, the plug-in's, and what an author needs."""
    theirs = build_wheel(repository, tmp_path_factory.mktemp("theirs"))
    return make_environment(tmp_path_factory.mktemp("author"), our_wheel(), theirs, borrowed=author_packages())


def run(installed: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(installed / "python"), *words]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "module",
    [
        "aipartnerupflow.executors",
        "aipartnerupflow.executors.testing",
        "aipartnerupflow.a2a",
        "aipartnerupflow.workflows",
    ],
)
def test_the_import_starts_nothing(installed: Path, tmp_path: Path, module: str) -> None:
    done = run(installed, "-c", MEASURED.format(module=module), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    modules, loaded = done.stdout.splitlines()
    assert loaded == ""
    assert int(modules) < MOST_MODULES


def test_the_tests_of_the_plug_in_pass(installed: Path, repository: Path) -> None:
    done = run(installed, "-m", "pytest", "-q", cwd=repository)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_plug_in_is_checked_strictly_and_is_right(installed: Path, repository: Path) -> None:
    done = run(installed, "-m", "mypy", "--strict", cwd=repository)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 2 source files\n")


def test_the_example_of_a_workflow_is_checked_strictly(installed: Path, repository: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs/examples/own-code/research.py", tmp_path)
    cache = ("--cache-dir", str(repository / ".mypy_cache"))
    done = run(installed, "-m", "mypy", "--strict", *cache, "research.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


def test_the_type_checker_sees_what_is_wrong_in_a_plug_in(installed: Path, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    cache = ("--cache-dir", str(repository / ".mypy_cache"))  # warm, after the test before
    done = run(installed, "-m", "mypy", "--strict", "--no-error-summary", *cache, "wrong.py", cwd=tmp_path)
    found = re.findall(r"^wrong\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert {int(line): code for line, code in found} == WRONG_LINES, done.stdout


def test_the_server_lists_the_executor_and_runs_a_tree_with_it(installed: Path, tmp_path: Path) -> None:
    greet = {"id": "greet", "name": "Greet", "schemas": {"method": "greeting_executor"}, "inputs": {"name": "Ada"}}
    with serving(installed, data_dir=tmp_path / "data", working_dir=tmp_path) as url:
        listed = subprocess.run(
            [str(installed / "aipartnerupflow"), "executors", "--json", "--url", url],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        )
        root = run_tree(url, greet)
    assert '"greeting_executor"' in listed.stdout
    assert (root["status"], root["result"]) == ("completed", {"greeting": "Hello, Ada!"})
