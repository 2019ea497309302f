"""Workers are killed while agents and trees call functions and a web service. What happened is counted where it happened."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tasks.rules.interrupts import INTERRUPTED
from tests.effect_functions import SINK
from tests.fork_server import QUARANTINE
from tests.servers import Server, running_server, until

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.timeout(600)]

Json = dict[str, Any]
KINDS: Final = ("pay", "look_up", "agent-pay", "agent-look_up", "send")
"""A function that must not be repeated, and one that may, as a task and as the tool of an agent; and a request (POST)."""


@dataclass(slots=True, kw_only=True)
class Sink:
    """Where the effects are counted, by the id of their task."""

    file: Path
    requests: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def count(self) -> Counter[str]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return Counter(lines) + self.requests


@contextmanager
def opened_sink(folder: Path) -> Iterator[Sink]:
    sink = Sink(file=folder / "sink")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sink.requests[self.path.removeprefix("/")] += 1
            with suppress(OSError):  # the worker may have been killed
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def server_with(sink: Sink, database: str) -> Iterator[Server]:
    env = {
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.effect_functions",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "localhost",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(sink.port),
        "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "demo/demo",
        SINK: str(sink.file),
    }
    with running_server(database, env=env) as server:
        yield server


def start(server: Server, sink: Sink, name: str) -> None:
    """Start a tree of each kind."""
    for kind in KINDS:
        task_id = f"{name}-{kind}"
        if kind == "send":
            inputs = {"url": f"http://localhost:{sink.port}/{task_id}", "method": "POST"}
            task: Json = {"schemas": {"method": "rest_executor"}, "inputs": inputs}
        elif kind.startswith("agent-"):
            tools = [kind.removeprefix("agent-")]
            task = {"schemas": {"method": "llm_executor"}, "inputs": {"prompt": "Go.", "tools": tools}}
        else:
            task = {"schemas": {"method": "python_executor"}, "inputs": {"function": kind}}
        server.rpc("tasks.execute", {"tasks": {"id": task_id, "name": kind, **task}})


def kill_workers(server: Server) -> None:
    """Kill -9 every worker that has a run, but no quarantine, whose deaths convict the only task that it has."""
    owners = server.query(
        "SELECT DISTINCT lease_owner FROM tasks_run WHERE finished_at IS NULL AND lease_owner LIKE '%%/%%'"
    )
    for (owner,) in owners:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(owner.split("/")[1]))
            if not server.runs(process, QUARANTINE):
                process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How often what must not happen happened; `interrupted` tasks failed because it is not known whether they acted."""

    twice: int
    lost: int
    green_without_answer: int
    interrupted: int


def judged(server: Server, sink: Sink) -> Verdict:
    """Judge all runs, which are over."""
    rows = server.query("SELECT id, name, status, effect, error, parent_id, spawned_by FROM tasks_task")
    effects, status_of = sink.count(), {task_id: status for task_id, _, status, *_ in rows}
    twice = lost = green = interrupted = 0
    for task_id, name, status, effect, error, _, spawned_by in rows:
        if name.startswith("agent-"):
            continue
        is_safe = name == "look_up"
        twice += not is_safe and effects[task_id] > 1
        lost += not effects[task_id] and (is_safe or effect != "begun")
        is_interrupted = INTERRUPTED in (error or "")
        interrupted += is_interrupted
        assert status == "completed" or (is_interrupted and not is_safe), (task_id, status, error)
        green += spawned_by is not None and status_of[spawned_by] == "completed" and status != "completed"
    callers = {spawned_by for *_, spawned_by in rows}
    green += sum(task_id not in callers for task_id, name, *_ in rows if name.startswith("agent-"))
    return Verdict(twice=twice, lost=lost, green_without_answer=green, interrupted=interrupted)


def is_over(server: Server) -> bool:
    return not server.query("SELECT id FROM tasks_run WHERE finished_at IS NULL")


def run_with_kills(server: Server, sink: Sink, *, kills: int, trees: int) -> Verdict:
    """Start so many trees of each kind before each kill, which comes when some of them have acted."""
    draw = random.Random(1)
    for number in range(kills):
        wanted = sink.count().total() + draw.randrange(2, 2 * trees)
        for tree in range(trees):
            start(server, sink, f"{number}-{tree}")
        _await_effects(server, sink, wanted)
        kill_workers(server)
    until(lambda: is_over(server), seconds=240, what="the end of every run", pause_seconds=0.1)
    return judged(server, sink)


def _await_effects(server: Server, sink: Sink, wanted: int) -> None:
    until(lambda: sink.count().total() >= wanted or is_over(server), seconds=60, what="effects", pause_seconds=0.01)


def test_no_effect_comes_twice_and_none_is_lost_that_had_not_begun(database: str, tmp_path: Path) -> None:
    with opened_sink(tmp_path) as sink, server_with(sink, database) as server:
        verdict = run_with_kills(server, sink, kills=3, trees=3)
    assert (verdict.twice, verdict.lost, verdict.green_without_answer) == (0, 0, 0)
