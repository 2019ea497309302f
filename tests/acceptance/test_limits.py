"""A provider that allows so many requests a minute, and workers that share the same limit: it refuses none, also when a worker dies."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from tests.ports import free_port
from tests.servers import new_database, running_server, until

pytestmark = pytest.mark.both_engines

PER_MINUTE = 600
AT_ONCE = 30
"""More than a worker may begin at once, because a busy machine delays requests; fewer than the tasks, which all begin at once without a limit."""
TREES, TASKS = 4, 20
Json = dict[str, Any]


@dataclass(slots=True)
class Provider:
    """Allows a rate, and so many requests at once, and counts the requests that it refuses with 429."""

    port: int
    answered: int = 0
    refused: int = 0
    times: list[float] = field(default_factory=list)
    _level: float = float(AT_ONCE)
    _at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self) -> int:
        with self._lock:
            now = time.monotonic()
            self._level = min(AT_ONCE, self._level + (now - self._at) * PER_MINUTE / 60)
            self._at = now
            if self._level < 1:
                self.refused += 1
                return 429
            self._level -= 1
            self.answered += 1
            self.times.append(now)
            return 200


@contextmanager
def provider() -> Iterator[Provider]:
    found = Provider(free_port())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(found.answer())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", found.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def ports_of(provider: Provider) -> dict[str, str]:
    return {"AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(provider.port)}


def test_workers_that_share_a_limit_are_never_refused_also_when_one_dies() -> None:
    limits = {"crm": {"match": {"host": "127.0.0.1"}, "requests_per_minute": PER_MINUTE}}
    env = {
        "AIPARTNERUPFLOW_LIMITS_SHARED": orjson.dumps(limits).decode(),
        "AIPARTNERUPFLOW_WORKER_PROCESSES": "2",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
    }
    with provider() as crm, new_database() as url, running_server(url, env=env | ports_of(crm)) as server:
        request = {"url": f"http://127.0.0.1:{crm.port}/x", "method": "GET"}
        for tree in range(TREES):
            tasks: list[Json] = [{"id": f"t{tree}", "name": "Tree"}]
            tasks += [
                {
                    "id": f"t{tree}-{number}",
                    "name": "Request",
                    "parent_id": f"t{tree}",
                    "schemas": {"method": "rest_executor"},
                    "inputs": request,
                }
                for number in range(TASKS)
            ]
            server.rpc("tasks.execute", {"tasks": tasks})
        until(lambda: crm.answered >= TREES * TASKS // 4, seconds=60, what="a quarter of the requests")
        server.kill(server.pids().workers[0])
        ended = [server.finished(f"t{tree}")[-1] for tree in range(TREES)]
        failed = server.query("SELECT id, error FROM tasks_task WHERE status <> 'completed'")
        assert ([each["status"] for each in ended], failed, crm.refused) == (["completed"] * TREES, [], 0)
    assert crm.answered >= TREES * TASKS
