"""A worker that dies with a secret in its hands leaves it nowhere, and the next worker gets and masks it again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_faults import holder_of, read_to
from tests.servers import MODULES, Server, new_database, running_server

pytestmark = pytest.mark.both_engines_nightly

VALUE = "canary-of-the-killed-worker"
OWN = {"AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.secret_executors"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as url, running_server(url, env=OWN) as server:
        yield server


def saying(name: str, **inputs: Any) -> dict[str, Any]:
    """A task whose executor says the value, although its inputs contain it only in hexadecimal."""
    said = {"how": "log", "says": f"It is {VALUE}".encode().hex()}
    return {"id": name, "name": name, "schemas": {"method": "scripted_executor"}, "inputs": inputs | said}


def files_of(server: Server) -> list[Path]:
    folders = {server.data_dir}
    if server.database_url.startswith("sqlite"):
        folders.add(Path(server.database_url.removeprefix("sqlite:///")).parent)
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()]


@pytest.mark.both_engines
def test_a_killed_worker_leaves_no_secret_and_the_next_one_masks_it(server: Server, tmp_path: Path) -> None:
    server.http.put("/api/secrets/token/", json={"value": VALUE}).raise_for_status()
    gate = tmp_path / "gate"
    first = saying("first", x="{{secret.token}}") | {"parent_id": "last"}
    second = saying("second", gate=str(gate), x="a {{secret.token}} b") | {
        "parent_id": "last",
        "dependencies": ["first"],
    }
    last = saying("last") | {"dependencies": ["second"]}
    server.rpc("tasks.execute", {"tasks": [last, first, second]})
    with server.events("last") as events:
        read_to(events, "task_start", "second")
        server.kill(holder_of(server, "last"))
        gate.touch()
        read_to(events, "task_completed", "last")
    log = server.finished("last")
    assert [event["message"] for event in log if event["type"] == "log"] == ["It is …"] * 3
    result = {
        name: server.rpc("tasks.get", {"task_id": name})["result"]["inputs"].get("x") for name in ("first", "second")
    }
    assert result == {"first": "…", "second": "a … b"}
    assert VALUE not in server.log.read_text() + str(log)
    assert [file for file in files_of(server) if VALUE.encode() in file.read_bytes()] == []
    tables = ("tasks_task", "tasks_taskevent", "tasks_run", "llmkeys_namedsecret")
    assert [table for table in tables if VALUE in str(server.query(f"SELECT * FROM {table}"))] == []


@pytest.mark.parametrize("asks", [False, True])
def test_a_process_tells_it_neither_by_its_result_nor_in_its_log(server: Server, asks: bool) -> None:
    server.http.put("/api/secrets/token/", json={"value": VALUE}).raise_for_status()
    secret = {"name": "token"} if asks else {"secret": "{{secret.token}}"}
    for how in ("result", "error", "raise", "stop"):
        task = {"name": "telling_executor", "inputs": secret | {"how": how}, "params": {"pool": "process"}}
        ran = server.rpc("tasks.execute", {"tasks": task, "wait": True, "wait_timeout_seconds": 60})
        assert ran["status"] == ("completed" if how == "result" else "failed")
        log = server.finished(ran["task_id"])
        assert [event["message"] for event in log if event["type"] == "log"] == ["The secret is …"]
        assert VALUE not in str([ran, log])
    shown = server.log.read_text()
    assert "WARNING tests.secret_executors: The secret is …" in shown
    assert VALUE not in shown
