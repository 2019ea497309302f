"""`aipartnerupflow import` as people run it: beside a running server, into its database."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.aipartnerupflow.importing.predecessors import DATABASES
from tests.fork_server import run_command
from tests.servers import environment_of, new_database, running_server
from tests.terminal import on_a_terminal

V0_9 = str(DATABASES / "v0_9.duckdb")
V0_18 = str(DATABASES / "v0_18.duckdb")


def test_what_is_left_out_is_printed_and_is_the_exit_code(tmp_path: Path) -> None:
    with new_database() as database:
        env = environment_of(database, tmp_path)
        first = on_a_terminal("import", V0_18, "--user", "carol", env=env)
        second = on_a_terminal("import", V0_9, env=env)
    assert (first.code, second.code) == (0, 1)
    assert "Imported 9 trees with 20 tasks" in first.out
    assert "Imported 1 schedule." in first.out
    assert "Left out:" in second.out
    assert "done (The task done), 3 tasks: The id 'done' is in use by another task here." in second.out
    assert "alone (The task alone), 1 task: " in second.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Give either SOURCE, the predecessor's database, or --url, its server."),
        ([V0_9, "--url", "http://localhost:1"], "Give either SOURCE"),
        (["/nothing/there.duckdb"], "Cannot read /nothing/there.duckdb: No such file or directory."),
    ],
)
def test_a_source_that_cannot_be_read(tmp_path: Path, words: list[str], told: str) -> None:
    with new_database() as database:
        done = run_command("import", *words, env=environment_of(database, tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_running_server_has_what_was_imported(tmp_path: Path) -> None:
    with new_database() as database, running_server(database) as server:
        done = run_command("import", V0_9, env=environment_of(database, tmp_path))
        report: Any = json.loads(done.stdout)
        assert (report["trees"], report["tasks"], report["left_out"]) == (7, 16, [])
        interrupted = {"task_id": "running-a", "text": "It was in progress, and is imported as failed.", "fields": {}}
        assert interrupted in report["notes"]
        root: Any = server.rpc("tasks.tree", {"task_id": "done-a"})
        assert (root["status"], [child["id"] for child in root["children"]]) == ("completed", ["done-a", "done-b"])
        assert root["result"]["results"]["done-b"]["return_code"] == 0
        assert server.rpc("tasks.running.status", {"task_ids": ["done"]})[0]["status"] == "completed"
        assert server.rpc("tasks.detail", {"task_id": "stopped"})["error"] == "Enough"
        pages = ("/ui/tasks/done", "/ui/tasks/failed", "/ui/")
        assert [server.http.get(path).status_code for path in pages] == [200, 200, 200]
        assert server.rpc("GetTask", {"id": "done"}, path="/", **{"A2A-Version": "1.0"})["status"]["state"] == (
            "TASK_STATE_COMPLETED"
        )
        assert "events of this run have been deleted" in server.http.get("/tasks/done/events").text
        again = server.rpc("tasks.execute", {"task_id": "done", "wait": True})
        assert (again["status"], again["task"]["result"]) == ("completed", root["result"])
