"""A client of A2A for tests: it speaks both versions over JSON-RPC, and shows whole replies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import time
from typing import Any

import httpx
import jwt
import orjson

from tests.shared_servers import PRIVATE_WEBHOOKS

Json = dict[str, Any]
numbers = count(1)

ECHO: Json = {"skill": "echo_executor", "inputs": {"say": "hello"}}
TREE: Json = {
    "tasks": [
        {"id": "root", "name": "aggregate_results_executor", "dependencies": ["left", "right"]},
        {"id": "left", "name": "echo_executor", "parent_id": "root", "inputs": {"side": "left"}},
        {"id": "right", "name": "echo_executor", "parent_id": "root", "inputs": {"side": "right"}},
    ]
}
SLOW: Json = {"skill": "sleep_executor", "inputs": {"seconds": 60, "steps": 600}}
BRIEF: Json = {"skill": "sleep_executor", "inputs": {"seconds": 0.6, "steps": 3}}
FAILING: Json = {"tasks": [{"name": "breaks", "schemas": {"method": "rest_executor"}, "inputs": {"url": "nonsense"}}]}


def gated(gate: Path) -> Json:
    """A task that ends once the file is there."""
    return {"skill": "scripted_executor", "inputs": {"gate": str(gate)}}


def message(*parts: Json, **fields: Any) -> Json:
    """A message of the user's in the shape of 1.0."""
    return {"messageId": f"m-{next(numbers)}", "role": "ROLE_USER", "parts": list(parts), **fields}


def data(value: Any, **fields: Any) -> Json:
    return message({"data": value}, **fields)


def text(value: str, **fields: Any) -> Json:
    return message({"text": value}, **fields)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What a client calls."""

    http: httpx.Client
    headers: dict[str, str] = field(default_factory=lambda: {"A2A-Version": "1.0"})

    def post(self, method: str, params: Any = None, **headers: str) -> httpx.Response:
        request = {"jsonrpc": "2.0", "id": next(numbers), "method": method, "params": {} if params is None else params}
        return self.http.post("/", json=request, headers=self.headers | headers)

    def call(self, method: str, params: Any = None, **headers: str) -> Any:
        """The result of a call that works."""
        reply = self.post(method, params, **headers).json()
        assert "error" not in reply, reply
        return reply["result"]

    def error(self, method: str, params: Any = None, **headers: str) -> Json:
        """The error of a call that is refused. In 0.3 a call that streams is refused in a stream of one event."""
        response = self.post(method, params, **headers)
        assert response.status_code == 200
        reply = only_event(response.content) if is_stream(response) else response.json()
        assert reply.keys() == {"jsonrpc", "id", "error"}, reply
        found: Json = reply["error"]
        return found

    def send(self, given: Json, **configuration: Any) -> Json:
        """The Task that a message came to."""
        result = self.call("SendMessage", {"message": given, "configuration": configuration})
        task: Json = result["task"]
        return task

    def start(self, given: Json, **configuration: Any) -> Json:
        """The Task that a message came to, without waiting for it."""
        return self.send(given, returnImmediately=True, **configuration)

    def get(self, task_id: str, **params: Any) -> Json:
        task: Json = self.call("GetTask", {"id": task_id, **params})
        return task

    def state(self, task_id: str) -> str:
        found: str = self.get(task_id)["status"]["state"]
        return found

    @contextmanager
    def stream(self, method: str, params: Json) -> Iterator[Iterator[Json]]:
        """The results as they come."""
        request = {"jsonrpc": "2.0", "id": "stream", "method": method, "params": params}
        with self.http.stream("POST", "/", json=request, headers=self.headers) as response:
            if response.headers["Content-Type"] != "text/event-stream":
                raise AssertionError(response.read())
            assert response.status_code == 200
            yield (_result(line) for line in response.iter_lines() if line.startswith("data: "))

    def streamed(self, method: str, params: Json) -> list[Json]:
        """Everything, when the stream has ended."""
        with self.stream(method, params) as results:
            return list(results)

    def asking(self) -> Json:
        """A Task that waits for input."""
        return self.send(text("do something"))


def is_stream(response: httpx.Response) -> bool:
    return response.headers["Content-Type"] == "text/event-stream"


def only_event(body: bytes) -> Any:
    (event,) = [line for line in body.decode().splitlines() if line.startswith("data: ")]
    return orjson.loads(event.removeprefix("data: "))


def _result(line: str) -> Json:
    reply = orjson.loads(line.removeprefix("data: "))
    assert reply.keys() == {"jsonrpc", "id", "result"}, reply
    assert reply["id"] == "stream"
    found: Json = reply["result"]
    return found


def states_of(results: list[Json]) -> list[str]:
    """The states that a stream tells, the Task's first."""
    statuses = [
        (result.get("task") or result["statusUpdate"])["status"]["state"].removeprefix("TASK_STATE_")
        for result in results
        if "task" in result or "statusUpdate" in result
    ]
    return [state for index, state in enumerate(statuses) if index == 0 or statuses[index - 1] != state]


SECRET = "correct-horse-battery-staple-0123456789"
SETTINGS = {"AIPARTNERUPFLOW_JWT_SECRET": SECRET} | PRIVATE_WEBHOOKS


def token_of(user: str, *roles: str) -> str:
    """A token minted elsewhere with the server's secret."""
    return jwt.encode({"sub": user, "exp": int(time()) + 3600, "roles": list(roles)}, SECRET, algorithm="HS256")


def agent_of(http: httpx.Client, user: str, *roles: str, version: str = "1.0") -> Agent:
    """A client that has logged in. An empty version is not sent."""
    headers = {"Authorization": f"Bearer {token_of(user, *roles)}"}
    return Agent(http=http, headers=headers | ({"A2A-Version": version} if version else {}))
