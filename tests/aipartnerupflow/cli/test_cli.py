"""The command itself: instant help, typing mistakes, which server is meant, exit codes of what can go wrong before a server answers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.aipartnerupflow.conftest import Said
from tests.ports import free_port
from tests.servers import PYTHON, Server, environment_of

Cli = Callable[..., Said]
MOST_MODULES = 450
"""A bound on the work: help takes as long as its imports."""
HEAVY = {"django", "httpx", "rich.live", "uvicorn", "msgspec", "pydantic", "apflow_site"}


def test_help_loads_nothing_heavy() -> None:
    program = "import sys; from aipartnerupflow.cli import main; sys.argv = ['x', '--help']\ntry: main()\nfinally: print(*sys.modules)"
    printed = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()[
        -1
    ]
    loaded = printed.split()
    assert not HEAVY & set(loaded)
    assert len(loaded) <= MOST_MODULES


def test_short_help_is_help_and_the_version_is_an_option(cli: Cli) -> None:
    for words in ([], ["runs"], ["runs", "list"]):
        assert cli(*words, "-h").out == cli(*words, "--help").out
    assert cli("--version").out == cli("version").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serv"], "Did you mean 'serve'"),
        (["tasks", "lst"], "Did you mean 'list'"),
        (["tasks", "get"], "Missing argument 'ID'"),
        (["tasks", "list", "--limit", "0"], "greater than or equal to 1"),
        (["tasks", "list", "--limt", "1"], "--limit"),
        (["tasks", "update", "x", "--inputs", "{"], "not JSON"),
        (["run", "nowhere.json"], "Cannot read nowhere.json: No such file or directory."),
        (["run", "README.md"], "Cannot read README.md"),
        (["run", "docs/examples/hello.json", "--no-wait", "--watch"], "--no-wait returns at once"),
        (["run", "docs/examples/hello.json", "--no-wait", "--timeout", "1"], "--no-wait returns at once"),
        (["tasks", "list", "--url", "localhost"], "'localhost' is not the URL of a server"),
        (["tasks", "list", "--url", "http://x", "--token", "a\nb"], "The token is empty or has invalid characters"),
        (["tasks", "list", "--config", "nowhere.yaml", "--url", ""], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli: Cli, words: list[str], said: str) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_nobody_listens(cli: Cli) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = cli("tasks", "list", "--url", url)
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith(f"No answer from {url}: ")
    assert "aipartnerupflow serve" in done.err


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_without_an_address_the_local_server_is_meant(server: Server, tmp_path: Path, host: str) -> None:
    port = server.url.rpartition(":")[2]
    environment = environment_of("", tmp_path) | {"AIPARTNERUPFLOW_PORT": port, "AIPARTNERUPFLOW_HOST": host}
    command = [sys.executable, "-m", "aipartnerupflow", "tasks", "tree", "example-machine", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert '"id": "example-machine"' in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--url", "SERVER", "tasks", "list"),
        ("tasks", "--url=SERVER", "list"),
        ("--token", "a", "tasks", "--url", "SERVER", "list", "--limit", "1"),
        ("--url", "http://127.0.0.1:1", "tasks", "list", "--url", "SERVER"),
    ],
)
def test_the_server_may_be_named_before_the_command(server: Server, cli: Cli, words: tuple[str, ...]) -> None:
    unused = f"http://127.0.0.1:{free_port()}"
    named = cli(*(word.replace("SERVER", server.url) for word in words), AIPARTNERUPFLOW_URL=unused)
    assert named.code == 0, named.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "http://x", "taks", "list"], "Did you mean 'tasks'"),
        (["--url", "http://x", "serve"], "No such option: --url"),
        (["--url", "http://x", "tasks", "--nothing", "list"], "--nothing"),
    ],
)
def test_a_server_before_a_command_hides_no_mistake(cli: Cli, words: list[str], said: str) -> None:
    done = cli(*words)
    assert (done.code, said in done.err) == (2, True), done.err
    assert "list" in cli("--url", "http://x", "tasks", "--help").out


def test_the_flag_wins_over_the_environment(server: Server, cli: Cli) -> None:
    unused = f"http://127.0.0.1:{free_port()}"
    assert cli("tasks", "list", "--url", server.url, AIPARTNERUPFLOW_URL=unused).code == 0
    assert cli("tasks", "list", AIPARTNERUPFLOW_URL=unused).code == 6
