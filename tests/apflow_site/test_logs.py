"""What is logged: lines for programs or for people, with the ids of what they belong to, and without secrets."""

import logging
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from structlog.contextvars import bound_contextvars

from apflow_site.logs import JsonLines, TextLines, formatter
from tests.executors_for_tests import SECRET
from tests.servers import Server, new_database, running_server, until

JSON = {"AIPARTNERUPFLOW_LOG_FORMAT": "json", "AIPARTNERUPFLOW_LOG_REQUESTS": "true"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database_url, running_server(database_url, env=JSON) as server:
        yield server


def lines(server: Server, **wanted: Any) -> list[dict[str, Any]]:
    """What the server's processes have logged, and is like this."""
    found = [orjson.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if line.items() >= wanted.items()]


def test_a_request_is_a_line_with_its_id_and_its_route(server: Server) -> None:
    answer = server.http.get("/health", headers={"X-Request-Id": "from-the-proxy-1"})
    assert answer.headers["X-Request-Id"] == "from-the-proxy-1"
    [line] = until(lambda: lines(server, request="from-the-proxy-1"), seconds=60, what="the line")
    assert line.items() >= {"event": "request.answered", "route": "/health", "status": 200, "level": "info"}.items()
    assert 0 < line["seconds"] < 60


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "<script>"])
def test_an_id_that_is_none_is_replaced(server: Server, sent: str) -> None:
    answered = server.http.get("/health", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", answered)


def test_a_path_may_hold_a_secret_so_the_route_is_logged(server: Server) -> None:
    server.http.get("/login/link/one-time-secret/", headers={"X-Request-Id": "login"})
    [line] = until(lambda: lines(server, request="login"), seconds=60, what="the line")
    assert line["route"] == "/login/link/<str:secret>/"
    assert "one-time-secret" not in server.log.read_text()


def test_what_a_task_logs_names_its_run_and_itself_and_hides_its_secret(server: Server) -> None:
    task = {"id": "broken", "name": "broken", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "raise"}}
    server.rpc("tasks.execute", {"tasks": [task], "wait": True})
    [line] = until(lambda: lines(server, event="executor.raised"), seconds=60, what="the line")
    [(run_id,)] = server.query("SELECT id FROM tasks_run WHERE root_id = 'broken'")
    assert (line["task"], line["run"], line["logger"]) == ("broken", run_id, "tasks.worker.attempt")
    assert "Traceback" in line["exception"]
    assert SECRET not in server.log.read_text()


def record(message: str, **extra: Any) -> logging.LogRecord:
    found = logging.LogRecord("tasks.x", logging.INFO, "x.py", 1, message, (), None)
    vars(found).update(extra)
    return found


def test_lines_for_programs_keep_what_is_beside_the_message() -> None:
    with bound_contextvars(run="r", task="t"):
        line = orjson.loads(JsonLines().format(record("hello", event="x.y", odd=object(), key="sk-canary-12345678")))
    assert line.items() >= {"message": "hello", "event": "x.y", "run": "r", "task": "t", "logger": "tasks.x"}.items()
    assert (line["key"], "object" in line["odd"]) == ("sk-…", True)
    assert "\n" not in JsonLines().format(record("two\nlines"))


def test_lines_for_people_end_with_the_ids() -> None:
    assert TextLines().format(record("hello")).endswith("INFO tasks.x: hello")
    with bound_contextvars(run="r", task="t"):
        assert TextLines().format(record("hello")).endswith("hello [run=r task=t]")


def test_the_setting_names_the_formatter() -> None:
    assert (type(formatter("json")), type(formatter("text"))) == (JsonLines, TextLines)
