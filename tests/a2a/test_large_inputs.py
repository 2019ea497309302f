"""Large inputs over HTTP: they move into files by themselves, and nobody sees a difference."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import Server, new_database, running_server

Json = dict[str, Any]
pytestmark = pytest.mark.both_engines
SIZE = 100_000
LIMITS = {"AIPARTNERUPFLOW_LIMITS_INLINE_BYTES": "65536", "AIPARTNERUPFLOW_LIMITS_RESULT_BYTES": "150000"}
LARGE = {"text": "x" * SIZE, "list": [1, 2]}
MEASURE = {"name": "measuring_executor", "inputs": {"value": "{{run.inputs.doc.text}}"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database_url, running_server(database_url, env=LIMITS) as found:
        yield found


def run(server: Server, method: str, **params: Any) -> Json:
    found: Json = server.rpc(method, params | {"wait": True, "wait_timeout_seconds": 240})
    assert found["status"] == "completed", found
    return found


def stored(server: Server) -> int:
    return int(server.query("SELECT COUNT(*) FROM tasks_file")[0][0])


def result_of(server: Server, found: Json, name: str | None = None) -> Any:
    task_id = found["ids"][name] if name else found["task_id"]
    return server.rpc("tasks.get", {"task_id": task_id})["result"]


def test_inputs_of_tasks_and_items_of_maps_move_and_go_with_their_tree(server: Server) -> None:
    items = [{"text": "a" * (SIZE + number)} for number in range(3)]
    over = {"for_each": {"items": [*items, {"text": "short"}]}}
    tasks = [
        {"id": "all", "name": "all"},
        {"id": "echo", "parent_id": "all", "name": "echo_executor", "inputs": {"doc": LARGE, "small": 1}},
        {"id": "whole", "parent_id": "all", "name": "measuring_executor", "inputs": {"value": "y" * SIZE}},
        {"id": "place", "parent_id": "all", "name": "measuring_executor", "inputs": {"value": "{{{{" + "y" * SIZE}},
        {"id": "map", "parent_id": "all", "name": "map", "params": over},
        {"id": "one", "parent_id": "map", "name": "measuring_executor", "inputs": {"value": "{{item.text}}"}},
    ]
    found = run(server, "tasks.execute", tasks=tasks)
    assert [result_of(server, found, name) for name in ("whole", "place")] == [SIZE, SIZE + 2]
    assert result_of(server, found, "map") == [SIZE, SIZE + 1, SIZE + 2, 5]
    echoed = server.rpc("tasks.get", {"task_id": found["ids"]["echo"]})
    assert (echoed["inputs"], echoed["result"]["doc"]) == ({"doc": LARGE, "small": 1}, LARGE)
    references = server.rpc("tasks.get", {"task_id": found["ids"]["echo"], "expand": False})["inputs"]
    assert (references["doc"]["$value"], references["small"]) == (True, 1)
    assert stored(server) == 6  # the text with braces stays, and the result of echo is one, too
    server.rpc("tasks.delete", {"task_id": found["task_id"], "force": True})
    assert not server.query("SELECT id FROM tasks_filereference")


def test_inputs_of_runs_move_in_each_way_to_start_one(server: Server) -> None:
    found = run(server, "tasks.execute", tasks=[MEASURE], run_inputs={"doc": LARGE})
    assert result_of(server, found) == SIZE
    kept = server.query("SELECT inputs FROM tasks_runinputs")[0][0]
    assert len(str(kept)) < 1_000
    again = run(
        server,
        "tasks.execute",
        task_id=found["task_id"],
        copy_execution=True,
        run_inputs={"doc": {"text": "z" * SIZE * 2}},
    )
    assert result_of(server, again) == 2 * SIZE
    forked = run(server, "tasks.fork", task_id=found["task_id"], run_inputs={"doc": {"text": "z" * SIZE}})
    assert result_of(server, forked) == SIZE
    created = server.rpc("tasks.create", {"tasks": [{"name": "measuring_executor", "inputs": {"value": "y" * SIZE}}]})
    assert result_of(server, run(server, "tasks.execute", task_id=created["id"])) == SIZE


def test_inputs_of_a_flow_are_checked_while_they_are_whole(server: Server) -> None:
    document = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "more": {"default": 3}},
        "required": ["text"],
    }
    schema = {
        "type": "object",
        "properties": {"doc": document, "key": {"type": "string", "writeOnly": True}},
        "required": ["doc"],
        "additionalProperties": False,
    }
    tasks = [{"name": "measuring_executor", "inputs": {"value": "{{run.inputs.doc.text}}"}}]
    server.rpc("flows.save", {"name": "measures", "tasks": tasks, "inputs_schema": schema})
    before = stored(server)
    wrong = server.call("flows.run", {"name": "measures", "inputs": {"doc": {"text": 5, "more": "x" * SIZE}}})
    assert "do not fit the schema of this flow" in str(wrong["error"])
    assert stored(server) == before
    secret = "k" * SIZE
    found = run(server, "flows.run", name="measures", inputs={"doc": LARGE, "key": secret})
    assert (result_of(server, found), stored(server)) == (SIZE, before + 1)
    assert secret not in str(server.query("SELECT inputs FROM tasks_runinputs"))
    again = run(server, "tasks.execute", task_id=found["task_id"], copy_execution=True, run_inputs={"key": secret})
    assert (result_of(server, again), stored(server)) == (SIZE, before + 1)


def test_a_request_that_is_refused_leaves_no_file_and_says_what_to_do(server: Server) -> None:
    before = stored(server)
    tasks = [{"name": "measuring_executor", "inputs": {"value": "y" * SIZE}, "dependencies": ["absent"]}]
    assert "absent" in str(server.call("tasks.execute", {"tasks": tasks})["error"])
    many = {f"n{number}": "y" * 60_000 for number in range(3)}
    refused = server.call("tasks.execute", {"tasks": [MEASURE], "run_inputs": many | {"doc": LARGE}})
    assert "inputs" in str(refused["error"])
    names = {"id": "a", "name": "echo_executor", "inputs": {name: f"{{{{run.inputs.{name}}}}}" for name in many}}
    refused = server.call("tasks.execute", {"tasks": [names], "run_inputs": many})
    assert '"$value": true' in str(refused["error"]["message"]) and "files put" in str(refused["error"]["message"])
    assert stored(server) == before
