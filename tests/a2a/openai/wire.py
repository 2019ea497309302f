"""What the tests of OpenAI's wires share: flows, and a look at events."""

from typing import Any
from uuid import uuid4

import httpx

from tests.a2a.a2a_client import token_of
from tests.servers import Server

Json = dict[str, Any]


def rpc(server: Server, user: str, method: str, params: Json) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = server.http.post("/tasks", json=body, headers=headers_of(user)).json()
    assert "error" not in reply, reply
    return reply["result"]


def headers_of(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(user)}"}


def saved(server: Server, *tasks: Json, user: str = "alice", **fields: Any) -> str:
    """Save a flow, and return its name as a model."""
    name = f"flow-{uuid4().hex[:12]}"
    rpc(server, user, "flows.save", {"name": name, "tasks": list(tasks)} | fields)
    return f"flow:{name}"


def task(name: str, executor: str | None, **fields: Any) -> Json:
    return {"id": name, "name": name, **({} if executor is None else {"schemas": {"method": executor}}), **fields}


ECHO = task("echo", "echo_executor", inputs={"say": "{{run.inputs.who}}"})
MODEL = task("model", "llm_executor", inputs={"prompt": "{{run.inputs.prompt}}"})
ASK = task("ask", "approval_executor", inputs={"question": "Publish?", "options": ["yes", "no"]})
HISTORY = task("model", "llm_executor", inputs={"prompt": "{{run.inputs.prompt}}", "history": "{{run.inputs.history}}"})


def error_of(response: httpx.Response) -> Json:
    error: Json = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def types(events: list[Any]) -> list[str]:
    return [event.type for event in events]
