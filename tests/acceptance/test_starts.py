"""The guide's commands that start a server, typed into a shell, and what stops a start. The engine has no part in it: see test_guide."""

import os
import re
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.ports import free_port
from tests.servers import MODULES, PYTHON, ROOT, Server, real_server, running_server, until
from tests.shell import Shell

SECRET: Final = "of-the-starts-9vQ2xLr7Wm4Zt6Kb8Nc3Hd5F"

STARTS: Final = """
aipartnerupflow serve
aipartnerupflow-server
python -m aipartnerupflow.api.main
aipartnerupflow serve --host 0.0.0.0 --port 8080
aipartnerupflow serve --workers 4
aipartnerupflow-server --host 0.0.0.0 --port 8000
uvicorn aipartnerupflow.api.main:app --host 0.0.0.0 --port 8000 --workers 4
python manage.py runserver 8000
"""
"""All of the guide, but for `--reload` and `--config`, which have tests of their own, and the command of Django."""


@pytest.mark.parametrize("command", STARTS.strip().splitlines())
def test_every_way_to_start_starts_a_server_with_a_worker(shell: Shell, database: str, command: str) -> None:
    with shell.server(command, database=database, is_forked=False) as server:
        assert_works(server)


PLUGIN: Final = """
from aipartnerupflow.executors import Executor

class Greeting(Executor):
    id = "greeting_executor"
    name = "Greeting"
    description = "Greets."

    async def execute(self, inputs, context):
        return "WORDS"
"""


def test_a_change_of_a_plugin_is_loaded_and_a_broken_one_waits_for_its_repair(
    shell: Shell, database: str, tmp_path: Path
) -> None:
    """Also one that is not in the current folder. What is written before the folder is watched is written again."""
    file = tmp_path / "greeting_of_a_plugin.py"
    file.write_text(PLUGIN.replace("WORDS", "first"))
    path = f"{tmp_path}:{shell.environment['PYTHONPATH']}"
    modules = f"{MODULES},greeting_of_a_plugin"
    start = f"export PYTHONPATH={path} AIPARTNERUPFLOW_EXECUTORS_MODULES={modules}\naipartnerupflow serve --reload"
    with shell.server(start, database=database, is_forked=False) as server:
        assert_works(server)
        assert greeting(server) == "first"
        rewrite_until(lambda: "keeping worker" in server.log.read_text(), file, "this is no Python")
        assert greeting(server) == "first"
        rewrite_until(lambda: greeting(server) == "second", file, PLUGIN.replace("WORDS", "second"))


def greeting(server: Server) -> str:
    task = {"id": "hello", "name": "greeting_executor"}
    done = server.rpc("tasks.execute", {"tasks": [task], "wait": True})
    return str(server.rpc("tasks.get", {"task_id": done["root_task_id"]})["result"])


def rewrite_until(look: Callable[[], bool], file: Path, content: str) -> None:
    def is_seen() -> bool:
        file.write_text(content)
        with suppress(AssertionError):
            until(look, seconds=15, what="the change", pause_seconds=1)
            return True
        return False

    until(is_seen, seconds=120, what=f"what a change of {file.name} does")


def assert_works(server: Server) -> None:
    done = server.rpc("tasks.execute", {"tasks": [{"id": "a", "name": "echo_executor"}], "wait": True})
    assert done["status"] == "completed"
    assert first_line(server, f"X: {'x' * 200_000}") in (b"", b"HTTP/1.1 431")  # daphne closes without a word
    assert b"HTTP" in first_line(server, *HANDSHAKE, f"Authorization: Bearer {'x' * 9_000}")


HANDSHAKE: Final = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)


def first_line(server: Server, *fields: str) -> bytes:
    """The status line of the answer to a request with these headers; empty if there is none."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection, suppress(ConnectionError):
        connection.sendall("\r\n".join(["GET /ws HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode())
        return connection.recv(12)
    return b""


def test_web_processes_end_with_the_one_that_started_them_and_the_server_starts_again(database: str) -> None:
    port = free_port()
    with real_server(database, "--workers", "2", port=port) as server:
        assert len(server.processes()) > 4
        assert_works(server)
        server.kill(server.pid)
        server.assert_gone(within_seconds=60)
    with running_server(database, port=port) as server:
        assert server.http.get("/health").is_success


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("server:\n  prot: 8000\n", "server.prot (config.yaml): unknown key. Did you mean 'port' under 'server'?"),
        ("server:\n  port: eight\n", "server.port (config.yaml): 'eight' is not allowed"),
    ],
)
def test_a_wrong_file_stops_the_start_by_name(shell: Shell, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    printed = shell.run(f"cd {tmp_path} && aipartnerupflow serve --config config.yaml", code=2)
    assert says in printed.replace(f"{tmp_path}/", "")


def test_uvicorn_serves_nothing_when_the_start_fails(shell: Shell, database: str) -> None:
    """By itself, it takes an error at the start for an application without a start."""
    variables = {"AIPARTNERUPFLOW_EXECUTORS_MODULES": "nowhere", "AIPARTNERUPFLOW_DATABASE_URL": database}
    printed = shell.run(f"uvicorn aipartnerupflow.api.main:app --port {free_port()}", code=3, **variables)
    assert "executors.modules: 'nowhere' cannot be imported" in printed
    assert "Traceback" not in printed


def test_a_server_without_a_start_answers_nothing_and_says_why(database: str) -> None:
    """Without the lifespan of ASGI, it would have neither workers nor limits nor migrations."""
    port = free_port()
    command = [PYTHON, "-m", "uvicorn", "apflow_site.asgi:application", "--lifespan", "off", "--port", str(port)]
    environment = os.environ | {"AIPARTNERUPFLOW_DATABASE_URL": database}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=8)) as client:
                answers = [client.get("/health"), client.post("/tasks", json={}), client.get("/")]
            for answer in answers:
                assert (answer.status_code, answer.headers["content-type"]) == (503, "text/plain; charset=utf-8")
                assert "`aipartnerupflow serve`" in answer.text
            with (
                connect(f"ws://127.0.0.1:{port}/ws") as line,
                pytest.raises(ConnectionClosedError, match="Not started"),
            ):
                line.recv()
        finally:
            server.terminate()
        _, printed = server.communicate()
    assert printed.count("ERROR apflow_site.asgi: Not started: the web server does not send") == 1


def test_an_unknown_variable_stops_the_start_by_name(shell: Shell) -> None:
    assert "AIPARTNERUPFLOW_PROT: unknown environment variable" in shell.run(
        "aipartnerupflow serve", code=2, AIPARTNERUPFLOW_PROT="1"
    )


def test_a_database_that_is_away_is_named_without_its_password(shell: Shell) -> None:
    away = f"postgresql://user:pa55word@127.0.0.1:{free_port()}/db"
    printed = shell.run(f"aipartnerupflow serve --port {free_port()}", code=2, AIPARTNERUPFLOW_DATABASE_URL=away)
    assert "AIPARTNERUPFLOW_DATABASE_URL" in printed
    assert "pa55word" not in printed


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--port 99999", "server.port (--port): '99999' is not allowed. Give a whole number from 0 to 65535."),
        ("--workers 0", "server.workers (--workers): '0' is not allowed"),
        ("--grpc-port 0", "a2a.grpc_port (--grpc-port): '0' is not allowed"),
        ("--host localhost:8000", "server.host (--host): 'localhost:8000' is not allowed"),
        ("--host notahost.invalid", "Cannot listen on notahost.invalid: "),
        ("--host notahost.invalid", "Choose another host: --host 127.0.0.1"),
        ("--host 192.0.2.1", "Choose another host: --host 127.0.0.1"),
    ],
)
def test_a_wrong_flag_stops_the_start_by_its_name(shell: Shell, flags: str, says: str) -> None:
    printed = shell.run(f"aipartnerupflow serve {flags}", code=2)
    assert says in printed
    assert "AIPARTNERUPFLOW_" not in printed


def shown_after(server: Server, label: str) -> str:
    """What stands behind the label in what the server said when it started."""
    (line,) = re.findall(rf"^{label} +(.*)$", server.log.read_text(), re.MULTILINE)
    return str(line)


@pytest.mark.parametrize("has_example", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_what_the_server_says_to_try_works_as_printed(shell: Shell, has_example: bool) -> None:
    examples = shell.folder / "docs/examples"
    if has_example:
        examples.mkdir(parents=True)
        (examples / "publish.json").write_text((ROOT / "docs/examples/publish.json").read_text())
    with shell.server("aipartnerupflow serve") as server:
        line = shown_after(server, "Try")
        assert ("publish.json" in line) is has_example
        shell.run(line.replace("--watch", "--no-wait"))  # the example waits for an answer


def test_with_authentication_what_it_says_leads_to_a_token(shell: Shell, database: str) -> None:
    config = f"database: {{url: '{database}'}}\nauth: {{jwt_secret: {SECRET}}}\n"
    (shell.folder / "own.yaml").write_text(config)
    with shell.server("aipartnerupflow serve --config own.yaml") as server:
        create = shown_after(server, "Log in").removeprefix("no administrator yet; create one: ")
        shell.run(create.replace("NAME", "ada"), given="a-password-of-ada-7Qx\n")
        key = shell.run(shown_after(server, " +Get a TOKEN:").replace("NAME", "ada") + " 2> /dev/null")
        shell.run(shown_after(server, "Try"), code=4)
        shell.run(shown_after(server, "Try").replace("TOKEN", key.strip()).replace("--watch", "--no-wait"))
