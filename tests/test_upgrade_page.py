"""docs/how-to/upgrade.md: what it says works unchanged does, and each row on what differs is tried."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import typer
from typer.main import get_command

from a2a.endpoints.modules import MODULES
from aipartnerupflow.cli import app
from apflow_site.config import ConfigError, known_settings, load, variables
from tests.accounts.conftest import minted
from tests.aipartnerupflow.importing.predecessors import DATABASES
from tests.aipartnerupflow.importing.recorded import tasks_of
from tests.aipartnerupflow.importing.replay import answering
from tests.documents import texts
from tests.fork_server import run_command
from tests.ports import free_port
from tests.predecessor import CALLS, EXECUTORS, OWNER, TREE, WORKS, Check
from tests.servers import ROOT, SERVE, WITH_EXAMPLES, Server, environment_of, new_database, running, running_server

PAGE: Final = "docs/how-to/upgrade.md"
PREFIX: Final = "AIPARTNERUPFLOW_"
UsageError: Final = cast("type[Exception]", typer.BadParameter.__base__)
SECRET: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    port = free_port()
    may_call = {"EXECUTORS_REST_ALLOW_PRIVATE": "localhost", "EXECUTORS_REST_ALLOWED_PORTS": f"80,{port}"}
    env = {f"{PREFIX}{name}": value for name, value in may_call.items()} | WITH_EXAMPLES
    with new_database() as database_url, running_server(database_url, port=port, env=env) as server:
        server.rpc("tasks.create", TREE)
        yield server


def rows(heading: str) -> dict[str, str]:
    """The table below a heading: the first cell of each row, and the second."""
    below = (ROOT / PAGE).read_text().split(f"# {heading}\n")[1]
    section = re.split(r"^#+ ", below, maxsplit=1, flags=re.MULTILINE)[0]
    table = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)
    return dict(table[1:])


def codes(*cells: str) -> list[str]:
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


UNCHANGED: Final = rows("What works unchanged")


def test_every_old_call_is_answered(server: Server) -> None:
    server.call("tasks.delete", {"task_id": "root", "force": True})  # other tests may have run it
    server.rpc("tasks.create", TREE)
    for path, method, params in WORKS:
        reply = server.call(method, params, path=path)
        assert "result" in reply, (method, params, reply)


def test_the_page_names_what_was_called() -> None:
    for path in ("/tasks", "/system"):
        called = {method for its, method, _ in WORKS if its == path}
        assert called == set(codes(UNCHANGED[f"`POST {path}`"]))
    assert {method for path, method, _ in WORKS if path == "/"} <= set(codes(UNCHANGED["`POST /`"]))
    parameters = {name for _, _, params in WORKS if isinstance(params, dict) for name in params}
    assert set(codes(UNCHANGED["parameters"])) <= parameters


def test_tasks_and_executors_have_their_names(server: Server) -> None:
    tree = server.rpc("tasks.tree", {"task_id": server.rpc("tasks.create", TREE)["id"]})
    executors = {executor["id"] for executor in server.rpc("system.executors", {}, path="/system")}
    assert set(codes(UNCHANGED["a task"])) <= tree.keys()
    assert set(codes(UNCHANGED["executors"])) <= executors


def test_an_a2a_message_with_tasks_runs_them(server: Server) -> None:
    part = {"kind": "data", "data": {"tasks": TREE}}
    message = {"kind": "message", "messageId": "1", "role": "user", "parts": [part]}
    task = server.rpc("message/send", {"message": message}, path="/")
    assert task["status"]["state"] == "completed"
    assert {each["name"] for each in TREE} <= {artifact["name"] for artifact in task["artifacts"]}


def test_the_modules_of_the_page_are_there() -> None:
    assert codes(UNCHANGED["`POST /modules/apflow.…`, of apflow 0.22"]) == list(MODULES)


def test_a_client_that_accepts_text_gets_the_message_as_data(server: Server) -> None:
    error = server.call("tasks.get", {"task_id": "nothing"}, Accept="application/json, text/plain, */*")["error"]
    assert (error["data"], error["errors"]) == (error["message"], {"task_id": "nothing"})


@pytest.mark.parametrize("path", ["/.well-known/agent-card", "/docs", "/healthz"])
def test_an_address_is_there(server: Server, path: str) -> None:
    assert server.http.get(path).status_code == 200


def test_every_row_is_tried() -> None:
    assert [*rows("Calls"), *rows("Executors")] == [*CALLS, *EXECUTORS]


@pytest.mark.parametrize("row", CALLS)
def test_a_call_differs_as_its_row_says(server: Server, row: str) -> None:
    try_all(CALLS[row], server)


@pytest.mark.parametrize("row", EXECUTORS)
def test_an_executor_differs_as_its_row_says(server: Server, row: str) -> None:
    try_all(EXECUTORS[row], server)


def try_all(checks: list[Check], server: Server) -> None:
    assert checks
    for check in checks:
        check(server)


SETTINGS: Final = rows("Settings")
OLD_VARIABLES: Final = [code for code in codes(*SETTINGS) if code.startswith(PREFIX) and "…" not in code]
NEW_VARIABLES: Final = [code for code in codes(*SETTINGS.values()) if code.startswith(PREFIX) and "…" not in code]


@pytest.mark.parametrize("variable", OLD_VARIABLES)
def test_an_old_variable_stops_the_start(variable: str) -> None:
    name, _, value = variable.partition("=")
    with pytest.raises(ConfigError, match=name):
        load({name: value or "1"})


@pytest.mark.parametrize("variable", NEW_VARIABLES)
def test_a_new_variable_is_one_of_ours(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert name in {each for key in known_settings() for each in variables(key)}
    assert not value or load({name: value})


def test_the_old_prefix_and_names_without_one_are_not_looked_at() -> None:
    nothing = load({})
    old = {"APFLOW_JWT_SECRET": SECRET, "APFLOW_API_PORT": "1", "DATABASE_URL": "x", "API_PORT": "1", "LOG_LEVEL": "x"}
    assert load(old) == nothing


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("postgresql+asyncpg://user:pass@localhost/db", False),
        ("duckdb:///old.duckdb", False),
        ("postgresql://user:pass@localhost/db", True),
        ("sqlite:///new.sqlite3", True),
    ],
)
def test_a_database_is_sqlite_or_postgresql(url: str, *, is_allowed: bool) -> None:
    try:
        assert load({f"{PREFIX}DATABASE_URL": url}).database.url == url
    except ConfigError:
        assert not is_allowed


def test_a_token_comes_in_the_header_and_ends_some_day() -> None:
    port = free_port()
    command = [*SERVE, "--port", str(port), "--no-worker"]
    secret = {f"{PREFIX}JWT_SECRET": SECRET}
    with (
        new_database() as database_url,
        running(command, port=port, database_url=database_url, env=secret, is_ready="/health") as closed,
    ):
        sent = {
            "as before": {"Authorization": f"Bearer {minted(key=SECRET, user_id=OWNER, roles=['admin'])}"},
            "for ever": {"Authorization": f"Bearer {minted(key=SECRET, user_id=OWNER, exp=None)}"},
            "of nobody": {"Authorization": f"Bearer {minted(key=SECRET)}"},
            "in a cookie": {"Cookie": f"Authorization={minted(key=SECRET, user_id=OWNER)}"},
        }
        answered = {kind for kind, headers in sent.items() if "result" in closed.call("tasks.count", {}, **headers)}
    assert answered == {"as before"}


@pytest.mark.parametrize(("before", "here"), rows("Commands").items())
def test_a_command_is_called_as_its_row_says(before: str, here: str) -> None:
    (old,), (new, *_) = codes(before), [*codes(here), ""]
    assert not parses(old.removeprefix("apflow "))
    assert not new or parses(new.removeprefix("aipartnerupflow "))


def test_the_old_command_line_is_described() -> None:
    """tests/interop/test_apflow_command.py runs these commands of the real package, nightly."""
    assert codes(*rows("The old command line")) == [
        *(
            f"apflow tasks {name}"
            for name in ("create", "list", "get", "tree", "children", "count", "status", "update")
        ),
        *("apflow tasks cancel", "apflow tasks delete", "apflow monitor watch"),
        *("apflow tasks watch", "apflow tasks clone", "apflow monitor status", "apflow monitor trace"),
        *("apflow monitor db", "apflow tasks scheduled", "apflow run flow", "apflow executors list"),
    ]


def parses(words: str) -> bool:
    """Whether our command line understands the words. Nothing is done."""
    command: Any = get_command(app)
    arguments = shlex.split(words)
    while isinstance(commands := getattr(command, "commands", None), dict):
        name = arguments.pop(0)
        if name not in commands:
            return False
        command = commands[name]
    try:
        command.make_context(command.name, arguments)
    except UsageError:
        return False
    return True


# --- the import ---

SERVICE: Final = "tests/tasks/services/trees/test_imports.py"
FOLDER: Final = "tests/aipartnerupflow/importing"
KEEPS: Final = f"{FOLDER}/test_import.py::test_an_import_keeps_trees_statuses_and_results"
IMPORTED: Final = {
    "tasks": KEEPS,
    "`status`, `result`, `error`, `progress`": KEEPS,
    "a task in progress": f"{FOLDER}/test_translation.py::test_a_task_in_progress_is_imported_as_failed",
    "pending tasks": f"{SERVICE}::test_an_unfinished_tree_goes_on_and_keeps_what_is_completed",
    "a tree of which every task has ended": f"{FOLDER}/test_import.py::test_an_ended_tree_has_a_run_that_ended_then",
    "a tree without a `user_id`": f"{FOLDER}/test_import.py::test_trees_without_an_owner_get_the_given_one",
    "a copy": KEEPS,
    "a link": f"{FOLDER}/test_sources.py::test_a_linked_task_has_what_it_is_linked_to",
    "an archive": KEEPS,
    "priorities below 0 or above 3": f"{FOLDER}/test_translation.py::test_priorities_beyond_ours_become_the_nearest",
    "the [schedule](schedules.md#as-fields-of-a-task) of a root": (
        f"{FOLDER}/test_import.py::test_the_old_cron_job_is_imported_and_fires_here"
    ),
    "the schedule of another task, or one that is over or wrong": (
        f"{FOLDER}/test_import.py::test_schedules_that_cannot_be_imported_are_left_out_by_name_and_their_trees_are_not"
    ),
    "fields that you have added to the table": (f"{FOLDER}/test_import.py::test_the_report_says_what_was_changed"),
    "a pending task whose executor is not available here": (
        f"{SERVICE}::test_a_pending_task_whose_executor_is_not_here_is_warned_of"
    ),
    "a tree that breaks a [rule of trees](../reference/tasks.md), or has a value that cannot be "
    "stored, such as NaN": f"{FOLDER}/test_translation.py::test_a_value_that_cannot_be_stored_is_named",
    "a task whose parent does not exist": f"{FOLDER}/test_sources.py::test_tasks_outside_all_trees_are_left_out",
    "a tree with an id that another task here has": f"{FOLDER}/test_import.py::test_ids_that_are_in_use_are_not_touched",
    "LLM keys, users and tokens": KEEPS,
}
"""The rows of the page on the import, and their tests."""


def test_every_row_on_the_import_has_a_test() -> None:
    assert list(rows("Import your trees")) == list(IMPORTED)
    for test in IMPORTED.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), test


def test_the_commands_import_trees(tmp_path: Path) -> None:
    """With the page's paths and URL replaced by those of a recorded predecessor."""
    by_file, by_url = texts(PAGE, "Import your trees", "sh")
    commands = [
        line.replace("~/.aipartnerup/data/aipartnerupflow.duckdb", str(DATABASES / "v0_9.duckdb"))
        for line in by_file.splitlines()
    ]
    with new_database() as database_url, answering(tasks_of("v0_9")) as (url, requests):
        env = environment_of(database_url, tmp_path) | {"AIPARTNERUPFLOW_TOKEN": "theirs"}
        commands += [by_url.strip().replace("http://old.example.com:8000", url)]
        words = [shlex.split(command.partition(" >")[0]) for command in commands]
        assert {program for program, *_ in words} == {"aipartnerupflow"}
        reports = [json.loads(run_command(*arguments, env=env).stdout) for _, *arguments in words]
    assert [token for _, _, token in requests] == ["Bearer theirs"]
    assert [report["tasks"] for report in reports] == [16, 16, 0]
    assert [report["dry_run"] for report in reports] == [True, False, False]
    assert reports[2]["tasks_here_already"] == 16
