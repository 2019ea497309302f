"""One real server for the client and the commands, and trees to give it."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.fork_server import run_command
from tests.servers import Server, environment_of
from tests.terminal import Screen, on_a_terminal

Json = dict[str, Any]
SAY_WHAT_A_TERMINAL_IS = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


def step(task_id: str, parent_id: str | None = "root", **inputs: Any) -> Json:
    """A task that does what its inputs say."""
    return {"id": task_id, "parent_id": parent_id, "name": f"Step {task_id}", "inputs": inputs} | {
        "schemas": {"method": "scripted_executor"}
    }


def tree(*tasks: Json) -> list[Json]:
    return [{"id": "root", "name": "Root"}, *tasks]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "aipartnerupflow", *words]


@pytest.fixture(scope="session")
def server(open_server: Server) -> Server:
    return open_server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """NDJSON, read."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    """Of a command: it talks to the server, and nobody says what a terminal is."""
    found = environment_of("", tmp_path) | {"AIPARTNERUPFLOW_URL": server.url}
    return {name: value for name, value in found.items() if name not in SAY_WHAT_A_TERMINAL_IS}


@pytest.fixture
def cli(environment: dict[str, str]) -> Callable[..., Said]:
    """Run a command of ours as programs do, by itself or with other variables; `stdin` is given as JSON, `text` as it is."""

    def cli(*words: str, stdin: Any = None, text: str | None = None, **variables: str) -> Said:
        given = text if stdin is None else json.dumps(stdin)
        done = run_command(*words, env=environment | variables, given=given or "")
        return Said(code=done.returncode, out=done.stdout, err=done.stderr)

    return cli


@pytest.fixture
def screen(environment: dict[str, str]) -> Callable[..., Screen]:
    """As `cli`, in front of a person: standard output is a terminal."""

    def screen(*words: str, stdin: Any = None, text: str = "", **variables: str) -> Screen:
        given = text if stdin is None else json.dumps(stdin)
        return on_a_terminal(*words, env=environment | variables, given=given)

    return screen
