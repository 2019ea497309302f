"""The pool `ray` on a real cluster of two nodes with one processor each, and a real server beside it."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.test_pools import function, run
from tests.servers import Server, new_database, running_server, until
from tests.tasks.pools.conftest import MODULES

Json = dict[str, Any]
ON_RAY: Final = {"pool": "ray"}
BOUND_SECONDS: Final = 120
pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Imported here, since it takes a second in every process that collects tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def server(cluster: Any) -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": MODULES,
        "AIPARTNERUPFLOW_WORKER_PROCESSES": "1",
        "AIPARTNERUPFLOW_POOLS_RAY_ADDRESS": cluster.address,
        "AIPARTNERUPFLOW_POOLS_RAY_CPUS": "1",
    }
    with new_database() as url, running_server(url, env=settings) as server:
        yield server


def scripted(name: str, *, params: Json | None = None, **inputs: Any) -> Json:
    schemas = {"method": "scripted_executor"}
    return {"id": name, "name": name, "schemas": schemas, "inputs": inputs, "params": ON_RAY | (params or {})}


def start(server: Server, *tasks: Json) -> str:
    tree = [{"id": "root", "name": "root"}, *({"parent_id": "root", **task} for task in tasks)]
    root_id: str = server.rpc("tasks.execute", {"tasks": tree})["root_task_id"]
    return root_id


def test_functions_and_executors_run_on_ray(server: Server) -> None:
    prompt = {"prompt": "Say hi", "model": "demo/demo"}
    llm = {"id": "llm", "name": "llm", "schemas": {"method": "llm_executor"}, "inputs": prompt, "params": ON_RAY}
    ran = run(
        server,
        function("sum", "add", params=ON_RAY, a=1),
        scripted("steps", seconds=0.1, steps=2),
        llm,
    )
    assert {name: task["status"] for name, task in ran.items()} == {
        "sum": "completed",
        "steps": "completed",
        "llm": "completed",
    }, {name: task["error"] for name, task in ran.items()}
    assert ran["sum"]["result"] == 2
    assert ran["llm"]["token_usage"]["prompt_tokens"] == 2
    # Alone: Ray may give the process that dies to a function that waits.
    (crashed,) = run(server, function("crash", "crash", params=ON_RAY)).values()
    assert (crashed["status"], "WorkerCrashedError" in crashed["error"]) == ("failed", True)


def test_what_ray_does_not_have_is_refused(server: Server) -> None:
    reply = server.call("tasks.create", {"tasks": [function("t", "add", params={"resources": {"gpus": 1}}, a=1)]})
    reason = "must be at most 0 (pools.ray.gpus), not 1"
    assert reply["error"]["data"] == [{"field": "tasks[0].params.resources.gpus", "reason": reason}]


@pytest.mark.parametrize("executor", ["function", "scripted"])
def test_cancelling_ends_the_work_on_the_node(server: Server, tmp_path: Path, executor: str) -> None:
    started = tmp_path / "started"
    tasks = {
        "function": function("block", "block", params=ON_RAY, started=str(started)),
        "scripted": scripted("block", gate=str(tmp_path / "never"), effects=str(started)),
    }
    if executor == "scripted":
        started.touch()  # it writes only to a file that exists
    root_id = start(server, tasks[executor])
    until(lambda: started.exists() and started.read_text(), seconds=BOUND_SECONDS, what="the start")
    server.rpc("tasks.cancel", {"task_id": root_id})
    server.finished(root_id)
    (task,) = server.rpc("tasks.tree", {"task_id": root_id})["children"]
    assert task["status"] == "cancelled"
    if executor == "scripted":
        assert until(lambda: "cancel" in started.read_text(), seconds=BOUND_SECONDS, what="the cancellation")
    assert run(server, function("sum", "add", params=ON_RAY, a=1))["sum"]["status"] == "completed"


def test_a_dead_node_fails_its_own_tasks_only(server: Server, cluster: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    node = cluster.add_node(num_cpus=1)
    started = [tmp_path / f"started-{number}" for number in range(3)]
    tasks = [
        function(f"t{n}", "wait_for", params=ON_RAY, gate=str(gate), started=str(file))
        for n, file in enumerate(started)
    ]
    root_id = start(server, *tasks)
    until(lambda: all(file.exists() for file in started), seconds=BOUND_SECONDS, what="one task on each node")
    cluster.remove_node(node, allow_graceful=False)

    def ended() -> list[Json]:
        tree = server.rpc("tasks.tree", {"task_id": root_id})["children"]
        return [task for task in tree if task["status"] != "in_progress"]

    until(ended, seconds=BOUND_SECONDS, what="the failure of the task on that node")
    gate.touch()
    server.finished(root_id)
    assert sorted(task["status"] for task in ended()) == ["completed", "completed", "failed"]
    (failed,) = (task for task in ended() if task["status"] == "failed")
    assert failed["error"].startswith("Ray could not run the task to its end")
