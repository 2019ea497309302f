"""What is logged: lines for programs or for people, with the ids of what they belong to, and without secrets."""

import io
import logging
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.conf import LazySettings

from apflow_site import logs
from apflow_site.logs import JsonLines, RequestLines, TextLines, formatter, log_answered
from tasks.telemetry.run_log import is_logged, queued
from tasks.telemetry.tracing import with_log_ids
from tests.executors_for_tests import SECRET
from tests.sections import replace
from tests.servers import Server, new_database, running_server, until

JSON = {"AIPARTNERUPFLOW_LOG_FORMAT": "json", "AIPARTNERUPFLOW_LOG_REQUESTS": "true"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database_url, running_server(database_url, env=JSON) as server:
        yield server


def lines(server: Server, **wanted: Any) -> list[dict[str, Any]]:
    """What the server's processes have logged, and is like this."""
    found = [
        orjson.loads(line) for line in server.log.read_text().rpartition("\n")[0].splitlines() if line.startswith("{")
    ]
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
    [line] = until(lambda: lines(server, event="executor.raised", task="broken"), seconds=60, what="the line")
    [(run_id,)] = server.query("SELECT id FROM tasks_run WHERE root_id = 'broken'")
    assert (line["task"], line["run"], line["logger"]) == ("broken", run_id, "tasks.worker.attempt")
    assert "Traceback" in line["exception"]
    assert SECRET not in server.log.read_text()


def record(message: str, **extra: Any) -> logging.LogRecord:
    found = logging.LogRecord("tasks.x", logging.INFO, "x.py", 1, message, (), None)
    vars(found).update(extra)
    return found


def test_lines_for_programs_keep_what_is_beside_the_message() -> None:
    with with_log_ids(run="r", task="t"):
        line = orjson.loads(JsonLines().format(record("hello", event="x.y", odd=object(), key="sk-canary-12345678")))
    assert line.items() >= {"message": "hello", "event": "x.y", "run": "r", "task": "t", "logger": "tasks.x"}.items()
    assert (line["key"], "object" in line["odd"]) == ("sk-…", True)
    assert "\n" not in JsonLines().format(record("two\nlines"))


def test_lines_for_people_end_with_the_ids() -> None:
    assert TextLines().format(record("hello")).endswith("INFO tasks.x: hello")
    with with_log_ids(run="r", task="t"):
        assert TextLines().format(record("hello")).endswith("hello [run=r task=t]")


def test_the_setting_names_the_formatter() -> None:
    assert (type(formatter("json")), type(formatter("text"))) == (JsonLines, TextLines)


def test_a_run_can_be_followed_from_its_request_to_its_end(server: Server) -> None:
    tasks = [
        {"id": "followed", "name": "followed"},
        {"id": "fails", "name": "t", "parent_id": "followed", "schemas": {"method": "scripted_executor"}}
        | {"inputs": {"then": "raise"}, "params": {"retry": {"max_attempts": 2, "backoff_seconds": 0}}},
    ]
    headers = {"X-Request-Id": "follow-me"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": tasks, "wait": True}}
    server.http.post("/tasks", json=body, headers=headers)
    [(run_id,)] = server.query("SELECT id FROM tasks_run WHERE root_id = 'followed'")
    until(lambda: lines(server, run=run_id, event="run.ended"), seconds=60, what="the last line of the worker")
    until(lambda: lines(server, request="follow-me", event="request.answered"), seconds=60, what="that of the request")
    found = [line for line in lines(server, run=run_id) if line["event"] not in ("executor.raised", "loop.blocked")]
    assert {line["logger"] for line in found} == {"requests", "runs"}
    kinds = ["run.queued", "run.started", "task.retried", "task.failed", "run.ended", "request.answered"]
    assert sorted(line["event"] for line in found) == sorted(kinds)
    by_kind = {line["event"]: line for line in found}
    assert by_kind["run.queued"]["request"] == "follow-me"
    assert by_kind["run.ended"].items() >= {"status": "failed", "root": "followed", "user": "local"}.items()
    failed = {"task": "fails", "executor": "scripted_executor", "attempt": 2, "user": "local"}
    assert by_kind["task.failed"].items() >= failed.items()
    assert by_kind["task.failed"]["seconds"] >= 0
    answered = {"rpc_method": "tasks.execute", "code": "ok", "user": "local"}
    assert by_kind["request.answered"].items() >= answered.items()


def test_a_run_that_has_waited_is_not_said_to_have_been_queued(server: Server) -> None:
    asking = {
        "id": "asks",
        "name": "asks",
        "schemas": {"method": "approval_executor"},
        "inputs": {"question": "Go on?"},
    }
    server.rpc("tasks.execute", {"tasks": asking})
    [(run_id,)] = server.query("SELECT id FROM tasks_run WHERE root_id = 'asks'")
    until(lambda: lines(server, run=run_id, event="run.ended"), seconds=60, what="that it waits")
    server.rpc("tasks.answer", {"task_id": "asks", "answer": "yes"})
    until(lambda: len(lines(server, run=run_id, event="run.ended")) == 2, seconds=60, what="its end")
    [started] = lines(server, run=run_id, event="run.started")
    [resumed] = lines(server, run=run_id, event="run.resumed")
    assert ", queued for " in started["message"] and started["seconds"] >= 0
    assert resumed["message"] == "Run resumed: tree 'asks' of 'local', 1 task"
    assert "seconds" not in resumed


def test_only_a_request_queues_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """The examples of the first start would come before the banner."""
    run = {"run_id": "run-1", "root_id": "tree", "user_id": "alice"}
    with caplog.at_level(logging.INFO):
        queued(**run)
        assert caplog.messages == []
        with with_log_ids(request="asked"):
            queued(**run)
    assert caplog.messages == ["Run run-1 is queued: tree 'tree' of 'alice'"]


def test_the_line_of_a_refused_call_has_its_code(server: Server) -> None:
    body = [{"jsonrpc": "2.0", "id": 1, "method": name, "params": {"task_id": "no"}} for name in ("tasks.get", "no")]
    server.http.post("/tasks", json=body, headers={"X-Request-Id": "refused"})
    [line] = until(lambda: lines(server, request="refused"), seconds=60, what="the line")
    assert {*line["code"].split(",")} == {"-32001", "-32601"}
    assert {*line["rpc_method"].split(",")} == {"tasks.get", "unknown"}


@pytest.mark.parametrize("percent", [0, 30, 100])
def test_runs_are_sampled_as_a_whole(settings: LazySettings, percent: int) -> None:
    settings.APFLOW = replace(settings.APFLOW, log=replace(settings.APFLOW.log, runs=percent))
    logged = [is_logged(f"run {number}") for number in range(1000)]
    assert abs(sum(logged) - 10 * percent) < 60
    assert logged == [is_logged(f"run {number}") for number in range(1000)]


def test_an_id_cannot_forge_a_line() -> None:
    record = logging.makeLogRecord({"msg": "Task %r failed", "args": ("a\nINFO forged",), "levelname": "INFO"})
    with with_log_ids(task="b\nINFO forged"):
        assert "\n" not in TextLines().format(record)


def test_the_start_is_a_line_for_programs_too(server: Server) -> None:
    [line] = lines(server, event="server.starting")
    assert line["url"] == server.url.replace("127.0.0.1", "localhost")
    assert "╭" not in server.log.read_text()


class HeldStream(io.StringIO):
    """A stream that does not write until it may, as standard error into a full pipe."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_write = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.is_asked.set()
        assert self.may_write.wait(60)
        return super().write(text)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldStream]:
    """Where the lines of requests go."""
    stream, handler = HeldStream(), RequestLines()
    handler.setStream(stream)
    handler.setFormatter(TextLines())
    monkeypatch.setattr(logs.logger, "handlers", [handler])
    monkeypatch.setattr(logs.logger, "level", logging.INFO)
    yield stream
    stream.may_write.set()
    handler.close()


def answer(number: int) -> None:
    with with_log_ids(request=f"r{number}"):
        noted = {"rpc_method": ["tasks.get"], "user": ["an admin"]}
        log_answered(method="GET", route="/tasks", status=number, seconds=0.0015, noted=noted)


def test_a_request_does_not_wait_for_its_line(held: HeldStream) -> None:
    answer(0)
    assert held.is_asked.wait(60)
    for number in range(1, 100):
        answer(number)
    held.may_write.set()
    logs.flush_requests()
    written = held.getvalue().splitlines()
    assert [line.partition(" requests: ")[2] for line in written] == [
        f"GET /tasks {number} in 1.5 ms rpc_method=tasks.get user='an admin' [request=r{number}]"
        for number in range(100)
    ]


def test_a_request_waits_rather_than_drop_a_line(held: HeldStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 5)
    answer(0)
    assert held.is_asked.wait(60)
    for number in range(1, 6):
        answer(number)
    one_more = threading.Thread(target=answer, args=[6])
    one_more.start()
    one_more.join(0.1)
    assert one_more.is_alive()
    held.may_write.set()
    one_more.join(60)
    logs.flush_requests()
    assert re.findall(r"request=r(\d)", held.getvalue()) == [*"0123456"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_stops_has_written_the_line_of_every_request(number: signal.Signals) -> None:
    with new_database() as database_url, running_server(database_url, env=JSON) as server:
        ids = [f"last-{each}" for each in range(200)]
        for each in ids:
            server.http.get("/health", headers={"X-Request-Id": each})
        server.process.send_signal(number)
        server.process.wait(60)
        found = [line["request"] for line in lines(server, event="request.answered")]
    assert [each for each in found if each in ids] == ids
