"""Pools on a real server: code that crashes or blocks harms its own task only, and no process outlives its worker."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import orjson
import pytest

from apflow_site.config import load
from tests.documents import text
from tests.fork_server import CLUSTER
from tests.servers import Server, new_database, running_server, until
from tests.tasks.pools.conftest import MODULES

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
SETTINGS = {
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": MODULES,
    "AIPARTNERUPFLOW_WORKER_PROCESSES": "1",
    "AIPARTNERUPFLOW_POOLS_PROCESS_SIZE": "2",
    "AIPARTNERUPFLOW_POOLS_PROCESS_CPUS": "2",
    "AIPARTNERUPFLOW_POOLS_PROCESS_MEMORY_MB": "600",
}
BOUND_SECONDS = 60
PAGE: Final = "docs/how-to/pools.md"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as url, running_server(url, env=SETTINGS) as server:
        yield server


def function(name: str, called: str, *, params: Json | None = None, **arguments: Any) -> Json:
    inputs = {"function": called, "arguments": arguments}
    return {
        "id": name,
        "name": name,
        "schemas": {"method": "python_executor"},
        "inputs": inputs,
        "params": params or {},
    }


def run(server: Server, *tasks: Json) -> dict[str, Json]:
    """The tasks below one root, when they have ended, by name."""
    tree = [{"id": "root", "name": "root"}, *({"parent_id": "root", **task} for task in tasks)]
    root_id = server.rpc("tasks.execute", {"tasks": tree})["root_task_id"]
    server.finished(root_id)
    return {task["name"]: task for task in server.rpc("tasks.tree", {"task_id": root_id})["children"]}


def test_functions_run_in_processes_that_are_not_the_worker(server: Server) -> None:
    ran = run(
        server,
        function("plain", "process_id"),
        function("asynchronous", "process_id_soon"),
        function("thread", "process_id", params={"pool": "thread"}),
        function("loop", "process_id", params={"pool": "loop"}),
        {"name": "echo", "schemas": {"method": "scripted_executor"}, "params": {"pool": "process"}},
    )
    assert {task["status"] for task in ran.values()} == {"completed"}
    cluster = [process.pid for process in server.processes() if server.runs(process, CLUSTER)]
    is_of_cluster = {name: ran[name]["result"] in cluster for name in ("plain", "asynchronous", "thread", "loop")}
    assert is_of_cluster == {"plain": False, "asynchronous": True, "thread": True, "loop": True}
    assert ran["plain"]["result"] in [process.pid for process in server.pool()]


def test_a_crash_fails_its_task_only_and_can_be_retried(server: Server) -> None:
    processes = server.pids()
    retry = {"retry": {"max_attempts": 2, "backoff_seconds": 0}}
    ran = run(
        server,
        function("crash", "crash", params=retry),
        function("exit", "exit_at_once", code=3),
        function("sum", "add", a=1),
    )
    assert {name: task["status"] for name, task in ran.items()} == {
        "crash": "failed",
        "exit": "failed",
        "sum": "completed",
    }
    assert "SIGSEGV" in ran["crash"]["error"]
    assert ran["crash"]["attempt"] == 2
    assert "exit code 3" in ran["exit"]["error"]
    assert server.pids() == processes
    assert server.query("SELECT count(*) FROM tasks_run WHERE strikes > 0") == [(0,)]


def test_memory_is_limited_by_the_setting_and_by_the_task(server: Server) -> None:
    less = {"resources": {"memory_mb": 100}}
    ran = run(server, function("much", "ask_for_memory"), function("little", "ask_for_memory", params=less))
    assert "600 MB" in ran["much"]["error"]
    assert "100 MB" in ran["little"]["error"]


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_what_blocks_ends_when_it_is_cancelled_or_too_late(server: Server, tmp_path: Path, how: str) -> None:
    started = tmp_path / "started"
    params = {"timeout_seconds": 10} if how == "timeout" else {}
    task = function("block", "block", params=params, started=str(started))
    task_id = server.rpc("tasks.execute", {"tasks": [task]})["root_task_id"]
    pid = until(lambda: started.exists() and started.read_text(), seconds=BOUND_SECONDS, what="the start")
    if how == "cancel":
        server.rpc("tasks.cancel", {"task_id": task_id})
    server.finished(task_id)
    until(
        lambda: int(pid) not in [process.pid for process in server.processes()], seconds=BOUND_SECONDS, what="its end"
    )


def test_tasks_wait_for_their_places_and_processors(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    both = {"resources": {"cpus": 2}}
    tasks = [function(f"t{n}", "wait_for", params=both if n < 2 else {}, gate=str(gate)) for n in range(5)]
    tree = [{"id": "root", "name": "root"}, *({"parent_id": "root", **task} for task in tasks)]
    root_id = server.rpc("tasks.execute", {"tasks": tree})["root_task_id"]

    def started() -> list[str]:
        children = server.rpc("tasks.tree", {"task_id": root_id})["children"]
        return [task["name"] for task in children if task["status"] == "in_progress"]

    until(lambda: len(started()) == 2, seconds=BOUND_SECONDS, what="two tasks in two places")
    assert not {"t0", "t1"} <= set(started())
    gate.touch()
    events = server.finished(root_id)
    assert events[-2]["type"] == "final" or events[-1]["type"] == "final"
    assert len(server.pool()) <= 2


def printed(server: Server, task: str) -> list[str]:
    """Return what the server has logged of the task's prints. Each line has the ids of the run and the task."""
    lines = [line for line in server.log.read_text().splitlines() if f"task={task}]" in line]
    assert all(
        re.fullmatch(r"\S+ \S+ INFO tasks\.pools\.prints: .* \[run=[0-9a-f-]+ task=\w+\]", line) for line in lines
    )
    return [line.partition("prints: ")[2].partition(" [run=")[0] for line in lines]


def test_what_tasks_print_is_logged_with_their_ids(server: Server) -> None:
    for name in ("first", "second"):  # in the same process
        run(server, {**function(name, "print_everywhere", text=name), "id": f"{name}_print"})
        assert printed(server, f"{name}_print") == [
            f"{name} of Python",
            f"WARNING own: {name} of a log record",
            f"{name} of a program",
            f"{name} of C",
            f"{name} without an end",
        ]


def test_who_prints_much_fills_no_log_and_holds_up_nobody(server: Server) -> None:
    size = server.log.stat().st_size
    endless = {**function("endless", "print_much", megabytes=-1), "id": "endless_print"}
    server.rpc("tasks.execute", {"tasks": [endless]})
    ran = run(
        server, {**function("much", "print_much", megabytes=100), "id": "much_print"}, function("sum", "add", a=1)
    )
    assert {name: task["status"] for name, task in ran.items()} == {"much": "completed", "sum": "completed"}
    assert server.rpc("tasks.get", {"task_id": "endless_print"})["status"] == "in_progress"
    server.rpc("tasks.cancel", {"task_id": "endless_print"})
    server.finished("endless_print")
    for task in ("endless_print", "much_print"):
        *lines, last = printed(server, task)
        assert last == "The task has printed 64 KB. What it prints after this is not logged: write it to a file."
        assert 50 < len(lines) < 200
        assert len({*lines}) == 1
    assert server.log.stat().st_size - size < 2 * 100_000


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"pool": "moon"}, "pool", "must be one of loop, thread, process, ray, not 'moon'"),
        ({"pool": 1}, "pool", "must be one of loop, thread, process, ray, not a number"),
        ({"resources": {"gpu": 1}}, "resources.gpu", "unknown field; did you mean 'gpus'?"),
        ({"pool": "ray"}, "pool", "cannot be had: there is no Ray cluster here (pools.ray.address)"),
        (
            {"resources": {"gpus": 1}, "pool": "process"},
            "resources.gpus",
            "can only be had in the pool 'ray', not in 'process'",
        ),
        ({"resources": {"cpus": 0}}, "resources.cpus", "must be an integer from 1 to 10,000, not 0"),
        ({"resources": {"cpus": 3}}, "resources.cpus", "must be at most 2 (pools.process.cpus), not 3"),
        (
            {"resources": {"memory_mb": 601}},
            "resources.memory_mb",
            "must be at most 600 (pools.process.memory_mb), not 601",
        ),
        (
            {"resources": {"cpus": 1}, "pool": "loop"},
            "resources",
            "can only be had in the pools 'process' and 'ray', not in 'loop'",
        ),
    ],
)
def test_what_can_never_be_had_is_refused(server: Server, params: Json, field: str, reason: str) -> None:
    before = server.query("SELECT count(*) FROM tasks_task")
    reply = server.call("tasks.create", {"tasks": [function("t", "add", params=params, a=1)]})
    assert reply["error"]["code"] == -32602
    assert reply["error"]["data"] == [{"field": f"tasks[0].params.{field}", "reason": reason}]
    assert server.query("SELECT count(*) FROM tasks_task") == before


def test_a_group_runs_nowhere(server: Server) -> None:
    reply = server.call("tasks.create", {"tasks": [{"name": "group", "params": {"pool": "process"}}]})
    reason = "is for tasks with an executor; this one runs no code"
    assert reply["error"]["data"] == [{"field": "tasks[0].params.pool", "reason": reason}]


def test_the_page_is_true(server: Server) -> None:
    task = orjson.loads(text(PAGE, "Where tasks run", "json"))
    task_id = server.rpc("tasks.execute", {"tasks": [task]})["root_task_id"]
    server.finished(task_id)
    assert server.rpc("tasks.get", {"task_id": task_id})["result"] == 6
    with NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text(PAGE, "Choose for an installation", "yaml"))
        file.flush()
        pools = load({"AIPARTNERUPFLOW_CONFIG": file.name}).pools
        file.seek(0)
        file.truncate()
        file.write(text(PAGE, "The environment of a process", "yaml"))
        file.flush()
        listed = load({"AIPARTNERUPFLOW_CONFIG": file.name}).pools.process.environment
        file.seek(0)
        file.truncate()
        file.write(text(PAGE, "Use a Ray cluster", "yaml"))
        file.flush()
        ray = load({"AIPARTNERUPFLOW_CONFIG": file.name}).pools.ray
    assert listed == ("SERPER_API_KEY", "HTTPS_PROXY", "MY_COMPANY_*")
    assert (ray.address, ray.gpus) == ("auto", 4)
    assert pools.executors == {"python_executor": "thread", "word_count_executor": "process"}
    assert (pools.process.size, pools.process.memory_mb) == (8, 2048)


def test_a_signal_to_all_processes_lets_the_work_in_hand_end(tmp_path: Path) -> None:
    """As systemd does it."""
    gate, started = tmp_path / "gate", tmp_path / "started"
    with new_database() as url, running_server(url, env=SETTINGS) as server:
        task = function("late", "wait_for", gate=str(gate), started=str(started))
        task_id = server.rpc("tasks.execute", {"tasks": [task]})["root_task_id"]
        until(started.exists, seconds=BOUND_SECONDS, what="the start")
        server.terminate_all()
        gate.touch()
        server.assert_gone(within_seconds=BOUND_SECONDS)
        assert server.query("SELECT status FROM tasks_task WHERE id = %s", task_id) == [("completed",)]


def test_no_process_outlives_its_worker(server: Server, tmp_path: Path) -> None:
    started = tmp_path / "started"
    task = function("block", "block_with_a_program", started=str(started))
    task_id = server.rpc("tasks.execute", {"tasks": [task]})["root_task_id"]
    until(lambda: started.exists() and started.read_text(), seconds=BOUND_SECONDS, what="the start")
    old = {process.pid for process in server.pool()} | {int(started.read_text())}
    server.kill(*server.pids().workers)
    until(lambda: not old & {process.pid for process in server.processes()}, seconds=BOUND_SECONDS, what="their end")
    server.finished(task_id)
    assert server.rpc("tasks.get", {"task_id": task_id})["status"] == "failed"
