"""docs/how-to/upgrade.md: what it says works unchanged does, and each row on what differs is tried."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, Final, cast

import pytest
import typer
from typer.main import get_command

from aipartnerupflow.cli import app
from apflow_site.config import ConfigError, known_settings, load, variables
from tests.accounts.conftest import minted
from tests.documents import text
from tests.predecessor import CALLS, EXECUTORS, OWNER, TREE, WORKS, Check, Json
from tests.servers import ROOT, SERVE, Server, free_port, new_database, running, running_server

PAGE: Final = "docs/how-to/upgrade.md"
PREFIX: Final = "AIPARTNERUPFLOW_"
UsageError: Final = cast("type[Exception]", typer.BadParameter.__base__)
SECRET: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    port = free_port()
    may_call = {"EXECUTORS_REST_ALLOW_PRIVATE": "localhost", "EXECUTORS_REST_ALLOWED_PORTS": f"80,{port}"}
    env = {f"{PREFIX}{name}": value for name, value in may_call.items()}
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


@pytest.mark.parametrize("path", ["/.well-known/agent-card", "/docs"])
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


# --- trees come over ---


class Predecessor(BaseHTTPRequestHandler):
    """Answers as the predecessor does: with fields that are gone, null for what is not set, and no `children` of leaves."""

    trees: Final[list[Json]] = []

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        params = call["params"]
        found: Any = self.trees[params.get("offset", 0) :]
        if call["method"] == "tasks.tree":
            (found,) = [tree for tree in self.trees if tree["id"] == params["task_id"]]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": found}).encode())

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


def old_task(task_id: str, method: str, *, children: list[Json] | None = None, **fields: Any) -> Json:
    task: Json = {
        "id": task_id,
        "parent_id": None,
        "user_id": None,
        "name": task_id,
        "status": "completed",
        "priority": 1,
    }
    task |= {"dependencies": [], "inputs": {}, "params": None, "schemas": {"method": method}, "result": {"old": True}}
    task |= {"created_at": "2026-01-01T00:00:00", "has_references": False, "schedule_type": None, "run_count": 0}
    return task | fields | ({"children": children} if children else {})


def test_the_program_brings_trees_over(server: Server) -> None:
    below = old_task("old-child", "system_info_executor", parent_id="old-root", inputs={"resource": "cpu"})
    needs = [{"id": "old-child", "required": True}]
    root = old_task("old-root", "aggregate_results_executor", dependencies=needs, user_id=OWNER, children=[below])
    Predecessor.trees[:] = [root, old_task("old-ssh", "ssh_executor")]
    with HTTPServer(("127.0.0.1", 0), Predecessor) as old:
        Thread(target=old.serve_forever, daemon=True).start()
        program = text(PAGE, "Migrate your trees", "python").replace("http://localhost:8000", server.url)
        program = program.replace("http://old.example.com:8000", f"http://127.0.0.1:{old.server_port}")
        first, second = (printed(program) for _ in range(2))
        old.shutdown()
    assert first[0] == "old-root is here"
    assert first[1].startswith("old-ssh Task 'old-ssh': executor 'ssh_executor' is not registered")
    assert "'old-root' is in use" in second[0]
    done = server.rpc("tasks.execute", {"task_id": "old-root", "wait": True})["task"]
    assert (done["status"], done["user_id"], done["priority"]) == ("completed", OWNER, 1)
    assert done["children"][0]["result"].keys() == {"cpu"}


def printed(program: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    ).stdout.splitlines()
