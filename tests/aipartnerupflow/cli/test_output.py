"""What a command prints when its standard output is no terminal: NDJSON, but for the text that a pipe is there for, and no traceback ever."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said, step, tree
from tests.fork_server import run_command
from tests.servers import Server

Cli = Callable[..., Said]
TEXT = {"TTY_COMPATIBLE": "1", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def stored(server: Server) -> str:
    """The id of a tree that waits."""
    with Client(server.url) as client:
        return client.create(tree(step("a"), step("b")))["id"]


@pytest.fixture
def nobody() -> Iterator[int]:
    """The end to write to of a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    yield writes
    os.close(writes)


@pytest.mark.parametrize(
    "words",
    [
        ["tasks", "list", "--user", "nobody at all"],
        ["tasks", "children", "ID"],
        ["tasks", "status", "ID", "nowhere"],
        ["tasks", "get", "ID"],
        ["tasks", "tree", "ID"],
        ["tasks", "count", "--user", "nobody at all"],
    ],
)
def test_a_list_is_a_line_for_each_and_one_thing_is_one_line(cli: Cli, stored: str, words: list[str]) -> None:
    words = [stored if word == "ID" else word for word in words]
    document = cli(*words, "--json").json
    assert cli(*words).lines == (document if isinstance(document, list) else [document])


def test_what_the_database_knows_is_piped_too(cli: Cli, server: Server) -> None:
    """The key itself is what a pipe is for: `KEY=$(aipartnerupflow tokens create …)`."""
    of_the_server = {"AIPARTNERUPFLOW_DATABASE_URL": server.database_url}
    made = cli("users", "create", "piper", "--password", "a pass phrase for piper", **of_the_server)
    assert (made.code, made.out) == (0, "Created operator 'piper'.\n")
    assert "piper" in [user["name"] for user in cli("users", "list", **of_the_server).lines]
    key = cli("tokens", "create", "piper", **of_the_server).out.strip()
    [listed] = cli("tokens", "list", "--user", "piper", **of_the_server).lines
    assert key.startswith(listed["key"].removesuffix("…"))


def test_a_warning_stands_beside_what_is_piped(cli: Cli) -> None:
    for words in (["tasks", "create", "-"], ["run", "-", "--no-wait"], ["run", "-", "--watch"]):
        done = cli(*words, stdin={"name": "my_task"})
        assert (done.code, done.err.partition(",")[0]) == (0, "Warning: Task 'my_task' names no executor")
        assert done.out


def test_a_draft_of_a_copy_is_a_file_for_another_command(cli: Cli, stored: str) -> None:
    draft = cli("tasks", "copy", stored, "--children", "--dry-run").out
    assert [task["name"] for task in cli("tasks", "create", "-", text=draft).lines[0]["children"]] == [
        "Step a",
        "Step b",
    ]


@pytest.mark.parametrize("variable", ["TTY_COMPATIBLE", "FORCE_COLOR"])
def test_text_is_forced_through_a_pipe(cli: Cli, stored: str, variable: str) -> None:
    said = cli("tasks", "tree", stored, NO_COLOR="1", COLUMNS="120", **{variable: "1"})
    assert said.out.splitlines()[0].split()[:2] == ["○", "Root"]
    assert cli("tasks", "tree", stored, "--json", **{variable: "1"}).json["id"] == stored


def test_ndjson_is_forced_on_a_terminal(screen: Callable[..., Said], stored: str) -> None:
    assert json.loads(screen("tasks", "get", stored, TTY_COMPATIBLE="0").out)["id"] == stored


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["tasks", "list"], {}),
        (["tasks", "list"], TEXT),
        (["tasks", "list", "--json"], {}),
        (["tasks", "run", "example-machine", "--watch"], {}),
        (["explain", "example-machine"], {}),
    ],
)
def test_a_reader_who_has_seen_enough_ends_a_command_quietly(
    environment: dict[str, str], nobody: int, words: list[str], variables: dict[str, str]
) -> None:
    done = run_command(*words, env=environment | variables, stdout=nobody)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("variables", [{}, TEXT])
def test_a_disk_that_is_full_is_said(environment: dict[str, str], variables: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run_command("config", "show", env=environment | variables, stdout=full)
    assert done.stderr == (
        "Cannot write the output: No space left on device. Free some space, or write to another disk.\n"
    )
    assert done.returncode == 74


def test_json_on_a_terminal_controls_no_terminal(cli: Cli, server: Server) -> None:
    hostile = "a\u009b31mb\u202ec\x7fd\u2028e\U000e0041f"
    with Client(server.url) as client:
        task_id = client.create([{"name": hostile}])["id"]
    for words in (["tasks", "get", task_id, "--json"], ["tasks", "tree", task_id, "--json"]):
        shown = cli(*words, **TEXT).out
        assert json.loads(shown)["name"] == hostile
        assert all(char.isprintable() for line in shown.split("\n") for char in line)
        assert cli(*words).json == json.loads(shown)
