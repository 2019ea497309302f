"""docs/security.md: each guarantee names existing tests, and the URLs and settings on the page are correct."""

import ast
import re
import stat
from collections.abc import Iterator
from typing import Final

import pytest

from apflow_site.config import known_settings
from tests.ports import free_port
from tests.servers import ROOT, SERVE, Server, new_database, running

PAGE: Final = (ROOT / "docs/security.md").read_text()
PROMISED, REST = PAGE.split("\n## What is not guaranteed\n")
PROMISES: Final = [
    row for row in re.findall(r"^\| (.+) \|$", PROMISED, re.MULTILINE) if not row.startswith("guarantee |")
]
TESTS: Final = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))
SECRET: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"
OPEN: Final = re.findall(r"`(/[^`]+)`", PROMISED.split("Without a token the server answers:\n\n- ")[1].split("\n- ")[0])
CLOSED: Final = [
    "/",
    "/admin/",
    "/metrics",
    "/tasks",
    "/api/tasks/",
    "/api/executors/",
    "/tasks/any/events",
    "/ui/executors/",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that wants a token. It is given all secrets, and a data folder that is not there yet."""
    port, data_dir = free_port(), tmp_path_factory.mktemp("installation") / "data"
    command = [*SERVE, "--port", str(port), "--no-worker"]
    secrets = {"AIPARTNERUPFLOW_JWT_SECRET": SECRET, "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": SECRET[::-1]}
    with (
        new_database() as url,
        running(command, port=port, database_url=url, env=secrets, data_dir=data_dir, is_ready="/health") as server,
    ):
        yield server


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_its_tests(promise: str) -> None:
    assert re.findall(r"`tests/[^`]+`", promise.rpartition("|")[2])


@pytest.mark.parametrize("path", TESTS)
def test_the_tests_are_there(path: str) -> None:
    functions = [node for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")]
    assert any(function.name.startswith("test_") for function in functions)


@pytest.mark.parametrize("path", OPEN)
def test_an_open_address_answers_without_a_token(server: Server, path: str) -> None:
    answer = server.http.get(path)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", CLOSED)
def test_any_other_wants_to_know_who_asks(server: Server, path: str) -> None:
    answer = server.http.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 401 or "/login/" in answer.headers["Location"]


def test_the_settings_that_it_names_are_there() -> None:
    named = set(re.findall(r"`([a-z]+(?:\.[a-z]+)?\.[a-z_]+)(?:: [^`]+)?`", PAGE)) - {"context.fetch"}
    sections = {key.partition(".")[0] for key in known_settings()}
    settings = {name for name in named if name.partition(".")[0] in sections}
    assert len(settings) > 5
    assert settings <= set(known_settings())


def test_its_data_folder_is_its_own_and_holds_no_key_that_was_given(server: Server) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert not {"secret_key", "jwt_secret", "llm_key"} & {file.name for file in server.data_dir.iterdir()}
