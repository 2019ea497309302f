"""What README and the quick start tell people to type, typed; and what they show, compared."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.curl import curl
from tests.servers import environment_of, new_database, running_server
from tests.terminal import on_a_terminal

ROOT = Path(__file__).parent.parent
COMMAND = ".venv/bin/aipartnerupflow"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with new_database(is_bare=True) as database_url, running_server(database_url) as server:
        yield server.url


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def events_of(stream: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]


def shown_of(answer: Any, shown: Any) -> Any:
    """The part of the answer that has the fields which are shown."""
    if isinstance(shown, dict) and isinstance(answer, dict):
        return {name: shown_of(answer.get(name), part) for name, part in shown.items()}
    return answer


def test_the_first_command_starts_the_server() -> None:
    assert blocks("README.md", "sh")[0] == "make serve\n"
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "serve", "ARGS=--port 8080"]
    would_run = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    assert would_run.stdout.endswith(f"{COMMAND} serve --port 8080\n")


def test_the_first_task_is_answered_as_shown(url: str) -> None:
    shown = json.loads(blocks("README.md", "json")[0])
    answer = curl(blocks("README.md", "sh")[1], base_url=url).json()
    assert shown_of(answer, shown) == shown


def test_the_stream_shows_every_step(url: str) -> None:
    reply, *events = events_of(curl(blocks("README.md", "sh")[2], base_url=url).text)
    assert reply["result"]["status"] == "started"
    assert [event["type"] for event in events] == [
        "task_start", "progress", "progress", "progress", "task_completed", "final", "stream_end",
    ]  # fmt: skip


def test_the_command_line_runs_the_example(url: str, tmp_path: Path) -> None:
    command = blocks("README.md", "sh")[3]
    assert command.startswith(COMMAND)
    environment = environment_of("", tmp_path) | {"AIPARTNERUPFLOW_URL": url}
    screen = on_a_terminal(*command.split()[1:], env=environment)
    assert screen.code == 0
    assert screen.out.endswith("Run completed\n")


def test_no_command_of_the_readme_is_left_out() -> None:
    assert len(blocks("README.md", "sh")) == 4


def test_every_command_of_the_quick_start_succeeds(url: str) -> None:
    answers = [curl(command, base_url=url) for command in blocks("docs/quickstart.md", "sh")]
    started, tree, steps, copied = answers
    assert started.json()["result"]["ids"].keys() == {"machine", "disk", "memory"}
    assert [child["id"] for child in tree.json()["result"]["children"]] == ["disk", "memory"]
    assert events_of(steps.text)[-2]["status"] == "completed"
    assert copied.json()["result"]["original_task_id"] == "machine"
