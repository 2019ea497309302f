"""The streams of A2A count among those that are open, by whatever door they came, and end with their client's token."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.a2a.a2a_client import BRIEF, SLOW, data
from tests.a2a.endpoints.test_ws_auth import ENV, NEARLY_EXPIRED, bearer
from tests.servers import Server, new_database, running_server

Json = dict[str, Any]
OLD = {"messageId": "m-old", "role": "user", "parts": [{"kind": "data", "data": BRIEF}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    env = ENV | {"AIPARTNERUPFLOW_LIMITS_STREAMS_PER_USER": "1"}
    with new_database() as url, running_server(url, env=env) as server:
        yield server


def started(server: Server, user: str) -> str:
    """The id of a Task that goes on for a minute."""
    params = {"message": data(SLOW), "configuration": {"returnImmediately": True}}
    task: Json = server.rpc("SendMessage", params, path="/", **bearer(user))["task"]
    return str(task["id"])


@pytest.mark.parametrize("path", ["/tasks/{}:subscribe", "/v1/tasks/{}:subscribe"])
def test_a_stream_of_http_counts_and_ends_with_its_token(server: Server, path: str) -> None:
    user = f"http{path.count('v1')}"
    task_id = started(server, user)
    short = bearer(user, seconds=NEARLY_EXPIRED)
    with server.http.stream("POST", path.format(task_id), headers=short) as stream:
        lines = stream.iter_lines()
        assert "task" in next(lines)
        refused = server.http.get(path.format(task_id), headers=bearer(user))
        assert (refused.status_code, refused.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert not any("CANCELED" in line for line in lines)
    server.rpc("CancelTask", {"id": task_id}, path="/", **bearer(user))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": data(BRIEF)}}),
        ("/", {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": OLD}}),
        ("/message:stream", {"message": data(BRIEF)}),
        ("/v1/message:stream", {"message": data(BRIEF)}),
    ],
)
def test_a_stream_too_many_is_refused_before_its_message_is_taken(server: Server, path: str, body: Json) -> None:
    user = f"full{path.replace('/', '-')}{body.get('method', '').replace('/', '-')}"
    task_id = started(server, user)
    with server.http.stream("GET", f"/tasks/{task_id}:subscribe", headers=bearer(user)) as stream:
        lines = stream.iter_lines()
        assert "task" in next(lines)
        reply = server.http.post(path, json=body, headers=bearer(user))
    if path == "/":
        assert (reply.status_code, reply.json()["id"], reply.json()["error"]["code"]) == (200, 1, -32029)
    else:
        assert (reply.status_code, reply.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert len(server.query("SELECT id FROM tasks_run WHERE user_id = %s", user)) == 1
    server.rpc("CancelTask", {"id": task_id}, path="/", **bearer(user))
