"""What README and the quick start tell people to type, typed; and what they show, compared."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.curl import curl
from tests.ports import free_port
from tests.receiver import Receiver, receiving
from tests.servers import COMMAND as PROGRAM
from tests.servers import environment_of, new_database, running, running_server, until
from tests.terminal import Screen, on_a_terminal

ROOT = Path(__file__).parent.parent
COMMAND = ".venv/bin/aipartnerupflow"
POSTED_TO = "https://httpbin.org/post"
WORKFLOWS = "docs/how-to/workflows.md"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with new_database(is_bare=True) as database_url, running_server(database_url) as server:
        yield server.url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Types commands of our documents, which post to `receiver` instead of httpbin.org, and answers what they ask."""

    url: str
    folder: Path
    receiver: Receiver

    def typed(self, block: str, *, answers: list[str], then: str = "") -> list[Screen]:
        """What each command of the block printed. Questions get the answers, in their order; `then` is typed after them."""
        with ThreadPoolExecutor() as pool:
            answering = pool.submit(self._answer, answers, then)
            screens = [self._type(command) for command in block.splitlines()]
            answering.result()
        return screens

    def _type(self, command: str) -> Screen:
        name, *words = shlex.split(command)
        assert name == COMMAND
        environment = environment_of("", self.folder) | {"AIPARTNERUPFLOW_URL": self.url}
        return on_a_terminal(*map(self._local, words), env=environment)

    def _local(self, word: str) -> str:
        """The word with the receiver's URL; of a file, that of a copy with this URL."""
        if word.startswith("docs/examples/"):
            path = self.folder / Path(word).name
            path.write_text((ROOT / word).read_text().replace(POSTED_TO, self.receiver.url))
            return str(path)
        return word.replace(POSTED_TO, self.receiver.url)

    def _answer(self, answers: list[str], then: str) -> None:
        with Client(self.url) as client:
            for answer in answers:
                asked = until(lambda: client.questions()["questions"], seconds=120, what="a question")
                client.answer(asked[0]["task_id"], answer)
        for command in then.splitlines():
            assert self._type(command).code == 0


def may_reach(receiver: Receiver) -> dict[str, str]:
    """The variables of a server whose tasks may call the receiver."""
    return {
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(receiver.port),
    }


@pytest.fixture
def terminal(tmp_path: Path, receiver: Receiver) -> Iterator[Terminal]:
    """With a server of its own, which may reach the receiver."""
    environment = may_reach(receiver)
    with new_database(is_bare=True) as database_url, running_server(database_url, env=environment) as server:
        yield Terminal(url=server.url, folder=tmp_path, receiver=receiver)


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def events_of(stream: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]


def test_the_first_command_starts_the_server() -> None:
    assert blocks("README.md", "sh")[0] == "make serve\n"
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "serve", "ARGS=--port 8080"]
    would_run = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    assert would_run.stdout.endswith(f"{COMMAND} serve --port 8080\n")


def test_the_first_tree_asks_and_posts(terminal: Terminal, receiver: Receiver, tmp_path: Path) -> None:
    [told] = terminal.typed(blocks("README.md", "sh")[1], answers=["yes"])
    assert (told.code, told.out.endswith("Run completed\n")) == (0, True)
    assert [post.event["text"][:10] for post in receiver.received] == ["This is th"]
    shown = json.loads(blocks("README.md", "json")[0])
    assert shown in json.loads((ROOT / "docs/examples/publish.json").read_text())


def test_a_folder_of_code_is_served(tmp_path: Path, receiver: Receiver) -> None:
    name, *words = shlex.split(blocks("README.md", "sh")[2])
    assert (name, "`run docs/examples/greet.json`" in (ROOT / "README.md").read_text()) == (COMMAND, True)
    start, order = blocks(WORKFLOWS, "sh")
    serve, research = start.splitlines()
    assert shlex.split(serve) == [name, *words]
    port = free_port()
    environment = may_reach(receiver)
    with (
        new_database() as database_url,
        running(
            [*PROGRAM, *words, "--port", str(port)], port=port, database_url=database_url, env=environment
        ) as server,
    ):
        told = on_a_terminal(
            "run", "docs/examples/greet.json", env=environment_of("", tmp_path) | {"AIPARTNERUPFLOW_URL": server.url}
        )
        assert (told.code, "Hello, Ada!" in told.out) == (0, True)
        terminal = Terminal(url=server.url, folder=tmp_path, receiver=receiver)
        [researched] = terminal.typed(f"{research} --input url={POSTED_TO}\n", answers=["yes"], then=order)
        assert (researched.code, researched.out.endswith("Run completed\n")) == (0, True)
    [post] = receiver.received
    assert post.event["report"].startswith("# rivers")


def test_the_workflow_of_the_page_is_that_of_its_file() -> None:
    assert blocks(WORKFLOWS, "python")[0] in (ROOT / "docs/examples/own-code/research.py").read_text()


def test_the_first_task_is_answered_and_followed(url: str) -> None:
    answer = curl(blocks("README.md", "sh")[3], base_url=url).json()["result"]
    assert answer["metadata"]["message"].startswith("The run has started. Its events are at /tasks/task1/events;")
    assert answer["metadata"]["warnings"] == [
        "Task 'my_task' names no executor, so it runs no code and completes with its inputs."
    ]
    follow = re.findall(r"`(curl -N .+?)`", (ROOT / "README.md").read_text())[0]
    assert [event["type"] for event in events_of(curl(follow, base_url=url).text)] == [
        "task_start", "task_completed", "final", "stream_end",
    ]  # fmt: skip


def test_no_command_of_the_readme_is_left_out() -> None:
    assert len(blocks("README.md", "sh")) == 4


def test_the_quick_start_goes_from_a_tree_to_a_flow_that_is_repaired(terminal: Terminal, receiver: Receiver) -> None:
    first, flow, broken, again = blocks("docs/quickstart.md", "sh")[:4]
    assert "Run completed\n" in terminal.typed(first, answers=["no"])[0].out
    saved, ran = terminal.typed(flow, answers=["yes"])
    assert (saved.code, ran.code) == (0, 0)
    [failed] = terminal.typed(broken, answers=["yes"])
    assert failed.code == 1
    task_id = re.findall(r"^Publish \((.+?)\): The host 'httpbin.invalid' cannot be", failed.out, re.MULTILINE)[0]
    [mended] = terminal.typed(again.replace("ID", task_id), answers=[])
    assert (mended.code, mended.out.endswith("Run completed\n")) == (0, True)
    assert ["tea" in post.event["text"] for post in receiver.received] == [True, False]


def test_every_request_of_the_quick_start_succeeds(url: str) -> None:
    answers = [curl(command, base_url=url) for command in blocks("docs/quickstart.md", "sh")[4:]]
    started, tree, steps, copied = answers
    assert started.json()["result"]["ids"].keys() == {"machine", "disk", "memory"}
    assert [child["id"] for child in tree.json()["result"]["children"]] == ["disk", "memory"]
    assert events_of(steps.text)[-2]["status"] == "completed"
    assert copied.json()["result"]["original_task_id"] == "machine"
