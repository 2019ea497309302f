"""Large results over HTTP: `tasks.get` returns them whole, and all else the file."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import text
from tests.ports import free_port
from tests.s3_server import running_bucket
from tests.servers import Server, new_database, running_server, until

Json = dict[str, Any]
pytestmark = pytest.mark.both_engines
SIZE = 200_000
ROUNDS = 8
SECTION = "docs/how-to/files.md", "Know what happens to large results"
OF_PAGE = yaml.safe_load(text(*SECTION, "yaml"))["limits"]
LIMITS = {
    "AIPARTNERUPFLOW_LIMITS_INLINE_BYTES": str(OF_PAGE["inline_bytes"]),
    "AIPARTNERUPFLOW_LIMITS_VALUE_BYTES": "1000000",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database_url, running_server(database_url, env=LIMITS) as found:
        yield found


def run(server: Server, tasks: list[Json]) -> Json:
    found: Json = server.rpc("tasks.execute", {"tasks": tasks, "wait": True})
    return found


def test_tasks_get_returns_the_value_and_other_replies_the_file(server: Server) -> None:
    inputs = {"number": 3, "size": SIZE}
    ran = run(server, [{"id": "written", "name": "writing_executor", "inputs": inputs}])
    assert ran["status"] == "completed", ran
    whole = server.rpc("tasks.get", {"task_id": "written"})["result"]
    assert (whole["number"], len(whole["text"])) == (3, SIZE + 28)
    value = server.rpc("tasks.get", {"task_id": "written", "expand": False})["result"]
    assert (value["$value"], value["name"]) == (True, "result.json")
    assert value.keys() == json.loads(text(*SECTION, "json")).keys()
    assert server.http.get(f"/files/{value['$file']}").json() == whole
    assert server.http.get("/api/tasks/written/", params={"expand": "false"}).json()["result"] == value
    assert server.http.get("/api/tasks/written/").json()["result"] == whole
    assert server.rpc("tasks.tree", {"task_id": "written"})["result"] == value
    server.rpc("tasks.delete", {"task_id": "written", "force": True})


def test_a_value_that_is_too_large_for_a_reply_stays_a_reference(server: Server) -> None:
    template = {"id": "one", "parent_id": "many", "name": "writing_executor", "inputs": {"number": 1, "size": SIZE}}
    many = {"id": "many", "name": "Many", "params": {"for_each": {"items": [1, 2, 3, 4, 5, 6]}}}
    assert run(server, [many, template])["status"] == "completed"
    result = server.rpc("tasks.get", {"task_id": "many"})["result"]
    assert [each["$value"] for each in result] == [True] * 6
    server.rpc("tasks.delete", {"task_id": "many", "force": True})


def documents(count: int) -> list[Json]:
    """A map that writes documents, two at a time, one that measures them, a loop over documents, and a large input."""
    each = {"max_parallel": 2}
    docs = {
        "id": "docs",
        "parent_id": "all",
        "name": "Docs",
        "params": {"for_each": {"items": [*range(count)], **each}},
    }
    written = {
        "id": "doc",
        "parent_id": "docs",
        "name": "writing_executor",
        "inputs": {"number": "{{item}}", "size": SIZE},
    }
    lengths = {"for_each": {"items": {"task": "docs"}, **each}}
    measured = {
        "id": "length",
        "parent_id": "lengths",
        "name": "measuring_executor",
        "inputs": {"value": "{{item.text}}"},
    }
    map_ = {"id": "lengths", "parent_id": "all", "name": "Lengths", "dependencies": ["docs"], "params": lengths}
    until = {"path": "/number", "op": "eq", "value": ROUNDS}
    loop = {"id": "loop", "parent_id": "all", "name": "Loop", "params": {"repeat": {"until": until, "max": 50}}}
    inputs = {"number": "{{round}}", "size": SIZE}
    turn = {"id": "round", "parent_id": "loop", "name": "writing_executor", "inputs": inputs}
    given = {"id": "given", "parent_id": "all", "name": "measuring_executor", "inputs": {"value": "y" * SIZE}}
    return [{"id": "all", "name": "All"}, docs, written, map_, measured, loop, turn, given]


def stored(server: Server) -> set[str]:
    """The ids of the files that are complete."""
    return {row[0] for row in server.query("SELECT id FROM tasks_file WHERE completed_at IS NOT NULL")}


def await_files(server: Server, count: int) -> None:
    until(lambda: len(stored(server)) >= count, seconds=120, what="some files")


def await_end(server: Server) -> None:
    until(lambda: not server.processes(), seconds=60, what="the end of the server")


def is_over(server: Server) -> bool:
    status: str = server.rpc("tasks.get", {"task_id": "all"})["run_status"]
    assert status != "failed"
    return status == "completed"


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_run_with_large_results_outlives_the_death_of_all_processes(tmp_path: Path, kind: str) -> None:
    """They die while results are being stored as files. After the end each result is there, and after its deletion nothing is."""
    count, port = 30, free_port()
    with new_database() as database_url, running_bucket() if kind == "bucket" else nullcontext() as bucket:
        env = LIMITS | (bucket.settings if bucket else {})
        for deaths in range(3):
            with running_server(database_url, env=env, port=port, data_dir=tmp_path / "home") as server:
                if not deaths:
                    server.rpc("tasks.execute", {"tasks": documents(count)})
                await_files(server, count * (deaths + 1) // 4)
                for process in server.processes():
                    process.kill()
                server.process.wait(60)
                await_end(server)
        with running_server(database_url, env=env, port=port, data_dir=tmp_path / "home") as server:
            until(lambda: is_over(server), seconds=240, what="the end of the run")
            assert server.rpc("tasks.get", {"task_id": "lengths"})["result"] == [SIZE + 28] * count
            assert server.rpc("tasks.get", {"task_id": "loop"})["result"]["number"] == ROUNDS
            assert server.rpc("tasks.get", {"task_id": "given"})["result"] == SIZE
            named = {each["$file"] for each in server.rpc("tasks.get", {"task_id": "docs", "expand": False})["result"]}
            assert len(named) == count and named <= stored(server)
            for file_id in named:
                assert len(server.http.get(f"/files/{file_id}").json()["text"]) == SIZE + 28
            server.rpc("tasks.delete", {"task_id": "all", "force": True})
            assert not server.query("SELECT id FROM tasks_filereference")


def test_results_wait_for_a_bucket_that_is_away(tmp_path: Path) -> None:
    """The service of the bucket stops, and starts again: the task that has its result meanwhile is executed once."""
    with new_database() as database_url:
        with running_bucket() as bucket:
            pass
        with running_server(database_url, env=LIMITS | bucket.settings, data_dir=tmp_path / "home") as server:
            inputs = {"number": 3, "size": SIZE}
            tasks = [{"id": "written", "name": "writing_executor", "inputs": inputs}]
            server.rpc("tasks.execute", {"tasks": tasks})
            until(lambda: "waits for it" in logged(server), seconds=240, what="a failure of the store")
            assert server.rpc("tasks.get", {"task_id": "written"})["status"] == "in_progress"
            with running_bucket(bucket):
                until(lambda: "final" in logged(server), seconds=240, what="the end of the run")
                found = server.rpc("tasks.get", {"task_id": "written"})
                assert (found["status"], found["attempt"], found["result"]["number"]) == ("completed", 1, 3)
                assert len(bucket.objects()) == 1


def logged(server: Server) -> str:
    run_id = server.rpc("runs.list", {"task_id": "written"})["runs"][0]["id"]
    return str(server.rpc("runs.export", {"run_id": run_id, "events": True})["events"])
