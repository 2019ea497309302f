"""A server that is restarted in the middle of a stream: whoever comes back misses nothing."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import httpx
import pytest

from a2a.live.sse import CUT
from tests.a2a.a2a_client import SLOW, Agent, Json, data, states_of
from tests.a2a.protocol.test_grpc import Stub
from tests.ports import free_port
from tests.servers import Server, new_database, running_server

pytestmark = pytest.mark.both_engines_nightly

SETTINGS = {"AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "0"}


def tree(gate: Path) -> Json:
    return {
        "tasks": [
            {"id": "last", "name": "aggregate_results_executor", "dependencies": ["second"]},
            {"id": "first", "name": "echo_executor", "parent_id": "last", "inputs": {"step": 1}},
            {
                "id": "second",
                "name": "scripted_executor",
                "parent_id": "last",
                "inputs": {"gate": str(gate), "seconds": 0.4, "steps": 8},
                "dependencies": ["first"],
            },
        ]
    }


def lines_after_a_stop(lines: Iterator[str], server: Server) -> list[str]:
    """The rest of a stream whose server is stopped."""
    rest: list[str] = []
    server.stop()
    with suppress(httpx.TransportError):
        rest.extend(line for line in lines if line)
    return rest


def test_a_stream_that_the_server_ends_before_its_task_says_so() -> None:
    port = free_port()
    with (
        new_database() as database,
        running_server(database, "--grpc-port", str(port), env=SETTINGS) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        task = Agent(http=server.http).start(data(SLOW))
        task_id = task["id"]
        followed = Stub(channel).follow("SubscribeToTask", {"id": task_id})
        assert next(followed)["task"]["id"] == task_id
        request = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task_id}}
        native = f"/tasks/{task['metadata']['rootTaskId']}/events"
        with (
            server.http.stream("POST", "/", json=request) as response,
            server.http.stream("GET", native) as native_response,
        ):
            lines, native_lines = response.iter_lines(), native_response.iter_lines()
            assert task_id in next(lines) and next(native_lines)
            rest = lines_after_a_stop(lines, server)
            native_rest = [line for line in native_lines if line]
        with pytest.raises(grpc.RpcError) as ended:
            list(followed)
    error: Any = ended.value
    assert rest[-1] == ": The server is shutting down, and the task has not ended. Subscribe to it again."
    assert native_rest[-1] == CUT.decode().strip()
    assert all('"state":"TASK_STATE_WORKING"' in line for line in rest[:-1])
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "Subscribe to it again" in error.details()


def seqs_of(results: list[Json]) -> list[int]:
    return [next(iter(result.values()))["metadata"]["seq"] for result in results if "task" not in result]


def test_a_stream_that_a_restart_cuts_off_goes_on_with_a_new_subscription(tmp_path: Path) -> None:
    port, gate = free_port(), tmp_path / "gate"
    with new_database() as database:
        with running_server(database, env=SETTINGS, port=port) as server:
            agent = Agent(http=server.http)
            with agent.stream("SendStreamingMessage", {"message": data(tree(gate))}) as results:
                task_id = next(results)["task"]["id"]
                before = [next(results) for _ in range(3)]
                server.stop()
                with suppress(httpx.TransportError):
                    before += list(results)
        assert states_of(before)[-1] == "WORKING"
        with running_server(database, env=SETTINGS, port=port) as server:
            agent = Agent(http=server.http)
            with agent.stream("SubscribeToTask", {"id": task_id}) as stream:
                after = [next(stream)]
                gate.touch()
                after += stream
            task = agent.get(task_id)
            (count,) = server.query("SELECT last_seq FROM tasks_run WHERE id = %s", task_id)[0]
    assert states_of(after)[-1] == "COMPLETED"
    assert after[-1]["statusUpdate"]["status"] == task["status"]
    missed = set(range(1, count + 1)) - {*seqs_of(before), *seqs_of(after)}
    # What happened while nobody followed is in the Task with which the subscription begins.
    assert missed <= set(range(max(seqs_of(before)) + 1, min(seqs_of(after))))
    assert len(task["artifacts"]) == 4
