"""What one user can do to another: the worst that the interfaces allow, and beside it a user who notices nothing.

Each row is an attack by Mallory (`attacks.py`). While it goes on, Bob runs a task of a second and a tree, follows a stream
and reads his task, again and again. Nothing of his fails or is tried again, and no process is replaced. How long he
waits is printed, and kept for the table of docs/reliability.md (`bystander_rows`), less what he waits alone.

BYSTANDERS_WORKERS is the number of worker processes that the two share, 1 by default. BYSTANDERS_ROWS, the
names of some attacks or parts of them, separated by commas, leaves out the others.
"""

import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import psutil
import pytest

from tests.a2a.a2a_client import SETTINGS
from tests.acceptance.attacks import (
    EXPERIMENT_ROWS,
    LARGE_ROWS,
    LONG_ROWS,
    MEGABYTE,
    ROWS,
    WAITS,
    Json,
    Mallory,
    Row,
    as_user,
    below,
    ended,
    task,
)
from tests.acceptance.bystander_rows import ALONE, WORKERS, store, waits
from tests.acceptance.file_attacks import FILE_ROWS
from tests.acceptance.heavy_attacks import HEAVY_ROWS, RUN_ROWS
from tests.faults.judge import tell
from tests.llm_server import llm_server
from tests.ports import free_port
from tests.servers import Server, events_of, running_server, until
from tests.tasks.executors.conftest import Web, serving

pytestmark = pytest.mark.timeout(1200)
RUN_BYTES: Final = 20 * MEGABYTE
ROUNDS_ALONE: Final = 5
CHOSEN: Final = os.environ.get("BYSTANDERS_ROWS", "").split(",")
LIMITS: Final = {
    "AIPARTNERUPFLOW_WORKER_PROCESSES": str(WORKERS),
    "AIPARTNERUPFLOW_LIMITS_WAITS_PER_USER": str(WAITS),
    "AIPARTNERUPFLOW_LIMITS_SPAWNED_TASKS": "20000",
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.executors_for_tests,tests.functions_for_tests,tests.hostile_workflows",
    "AIPARTNERUPFLOW_POOLS_PROCESS_MEMORY_MB": "200",
    "AIPARTNERUPFLOW_POOLS_PROCESS_SIZE": "4",
}


# --- Bob ---


@dataclass(kw_only=True)
class Bob:
    """A user on a thread of his own. `trouble` is empty if all went well."""

    server: Server
    headers: dict[str, str] = field(default_factory=lambda: as_user("bob"))
    seconds: list[float] = field(default_factory=list)
    """How long each of his rounds took, without his own work."""
    trouble: list[str] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While it is entered, he goes round and round; at least once."""
        is_over = threading.Event()
        thread = threading.Thread(target=self._go_round, args=(is_over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _go_round(self, is_over: threading.Event) -> None:
        with httpx.Client(base_url=self.server.url, timeout=300) as http:
            while True:
                try:
                    self.round(http)
                except (httpx.HTTPError, LookupError, ValueError) as error:
                    self.trouble.append(repr(error))
                if is_over.is_set() or self.trouble:
                    return

    def round(self, http: httpx.Client) -> None:
        """A task of a second that is followed, a tree beside it, and a look at both."""
        begun = time.monotonic()
        slow = self._call(http, "tasks.execute", tasks=[{"name": "slow", **sleeping(1.0)}])["root_task_id"]
        tree = below(task("a", "echo_executor"), task("b", "echo_executor", dependencies=["a"]))
        chain = self._call(http, "tasks.execute", tasks=tree, wait=True)
        self._check(chain["status"] == "completed", f"his tree ended as {chain}")
        with http.stream("GET", f"/tasks/{slow}/events", headers=self.headers) as response:
            types = [event["type"] for event in events_of(response.iter_lines())]
        self._check(types[-2:] == ["final", "stream_end"] and "task_retry" not in types, f"his stream was {types}")
        found = self._call(http, "tasks.get", task_id=slow)
        self._check((found["status"], found["attempt"]) == ("completed", 1), f"his task is {found}")
        self.seconds.append(time.monotonic() - begun - 1.0)

    def _call(self, http: httpx.Client, method: str, **params: Any) -> Json:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = http.post("/tasks", json=request, headers=self.headers).json()
        self._check("error" not in reply, f"{method} answered {reply}")
        result: Json = reply.get("result", {})
        return result

    def _check(self, is_well: bool, trouble: str) -> None:
        if not is_well:
            self.trouble.append(trouble[:1000])


def sleeping(seconds: float) -> Json:
    return {"schemas": {"method": "sleep_executor"}, "inputs": {"seconds": seconds}}


# --- the test ---


def problems(mallory: Mallory, row: Row, *, alone: float = 0.0) -> list[str]:
    """Carry out one attack beside Bob, and describe what he or the processes suffered."""
    server, name = mallory.server, row.attack.__name__
    processes, lost, silences = server.pids(), leases_lost(server), silences_in(server)
    bob = Bob(server=server)
    with bob.at_work():
        reply = row.attack(mallory)
        found = as_expected(server, row, reply)
    found += bob.trouble
    lost = leases_lost(server) - lost
    after = server.pids()
    replaced = len({*processes.web, *processes.workers} - {*after.web, *after.workers})
    if not row.kills:
        if after != processes:
            found.append(f"processes were replaced: {processes} by {after}")
        if lost:
            found.append(f"{lost} leases were lost")
    if silences_in(server) != silences:
        found.append("a request was told that the database does not answer")
    if bob.seconds:
        measured = waits(name, bob.seconds, alone=alone, lost=lost, replaced=replaced)
        store(measured)
        tell(f"{name}: another user waits {measured.p50:.2f} s longer, at most {measured.most:.2f} s")
    return [f"{name}: {problem}" for problem in found]


def leases_lost(server: Server) -> int:
    """How many runs have lost their worker, or were begun by two."""
    ((released,),) = server.query("SELECT count(*) FROM tasks_run WHERE interruption <> ''")
    return int(released) + server.log.read_bytes().count(b"was claimed by another worker")


def silences_in(server: Server) -> int:
    return server.log.read_bytes().count(b"The database does not answer")


def as_expected(server: Server, row: Row, reply: Json) -> list[str]:
    if row.ends is None:
        return [] if reply.get("error", {}).get("code") == -32602 else [f"it was answered {str(reply)[:1000]}"]
    if "error" in reply:
        return [f"it was refused: {str(reply)[:1000]}"]
    root_id = reply["result"]["root_task_id"]
    status = until(lambda: ended(server, root_id), seconds=300, what=f"the end of {row.attack.__name__}")
    return [] if status == row.ends else [f"its run {status}"]


def megabytes(server: Server) -> float:
    """What the worker takes."""
    return sum(psutil.Process(pid).memory_info().rss for pid in server.pids().workers) / MEGABYTE


@contextmanager
def shared_by_two(database: str, *, run_bytes: int = RUN_BYTES) -> Iterator[Mallory]:
    """A server with one worker process, and what Mallory has outside of it."""
    with serving(Web()) as web, llm_server() as llm:
        environment = {
            **SETTINGS,
            **LIMITS,
            "AIPARTNERUPFLOW_LIMITS_RUN_BYTES": str(run_bytes),
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(web.port),
            "OPENAI_BASE_URL": llm.openai_base,
        }
        port = free_port()
        with running_server(database, "--grpc-port", str(port), env=environment) as server:
            yield Mallory(server=server, web=web, llm=llm, grpc_port=port)


def assert_unnoticed(mallory: Mallory, rows: Sequence[Row]) -> None:
    alone = Bob(server=mallory.server)
    for _ in range(ROUNDS_ALONE):
        with alone.at_work():
            pass
    assert alone.trouble == []
    usual = statistics.median(alone.seconds)
    store(waits(ALONE, alone.seconds, alone=0.0))
    tell(f"alone: {usual:.2f} s")
    chosen = [row for row in rows if any(part in row.attack.__name__ for part in CHOSEN)]
    assert [problem for row in chosen for problem in problems(mallory, row, alone=usual)] == []


@pytest.mark.both_engines_nightly
@pytest.mark.sized
def test_another_user_notices_nothing(database: str) -> None:
    with shared_by_two(database) as mallory:
        assert_unnoticed(mallory, ROWS)


@pytest.mark.nightly
@pytest.mark.both_engines
def test_another_user_notices_nothing_of_what_takes_long_or_kills_the_worker(database: str) -> None:
    with shared_by_two(database) as mallory:
        before = megabytes(mallory.server)
        assert_unnoticed(mallory, LARGE_ROWS)
        assert megabytes(mallory.server) - before < 300  # threads keep what each row takes at its height
        ((stored,),) = mallory.server.query("SELECT sum(length(payload)) FROM tasks_taskevent")
        assert stored < 4 * RUN_BYTES  # two runs end at their limit, with their results in events
        assert_unnoticed(mallory, LONG_ROWS)


@pytest.mark.nightly
@pytest.mark.both_engines
def test_another_user_notices_nothing_of_small_requests_for_much_work(database: str) -> None:
    with shared_by_two(database) as mallory:
        assert_unnoticed(mallory, HEAVY_ROWS)


@pytest.mark.nightly
@pytest.mark.both_engines
def test_another_user_notices_nothing_of_many_files(database: str) -> None:
    with shared_by_two(database) as mallory:
        assert_unnoticed(mallory, FILE_ROWS)


@pytest.mark.nightly
@pytest.mark.both_engines
def test_another_user_notices_nothing_of_many_large_runs(database: str) -> None:
    with shared_by_two(database) as mallory:
        assert_unnoticed(mallory, RUN_ROWS)


@pytest.mark.nightly
@pytest.mark.both_engines
def test_another_user_notices_nothing_of_a_large_experiment(database: str) -> None:
    with shared_by_two(database, run_bytes=100 * MEGABYTE) as mallory:
        assert_unnoticed(mallory, EXPERIMENT_ROWS)
