"""A front end for tests: it sends requests of AG-UI, and checks each event with the protocol's own package."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

import httpx
import orjson
from pydantic import TypeAdapter

from tests.lazy_modules import LazyModule

core = LazyModule("ag_ui.core")
Json = dict[str, Any]


def checked(event: Json) -> Json:
    """The event. Raises AssertionError or ValidationError unless it is one of AG-UI 1.0, with no field beside."""
    read = _events().validate_python(event)
    assert not read.model_extra, event
    assert read.model_dump(by_alias=True, exclude_none=True, mode="json").keys() == event.keys(), event
    return event


@cache
def _events() -> TypeAdapter[Any]:
    return TypeAdapter(core.Event)


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    http: httpx.Client
    token: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def post(self, **given: Any) -> httpx.Response:
        return self.http.post("/ag-ui", json=request_of(**given), headers=self.headers)

    def run(self, *messages: Json, **given: Any) -> list[Json]:
        """All events of the reply."""
        response = self.post(messages=list(messages), **given)
        assert response.headers["content-type"] == "text/event-stream", response.text
        return [checked(event) for event in events_in(response.text.splitlines())]

    def refused(self, *messages: Json, **given: Any) -> Json:
        """The error of a request that starts nothing."""
        response = self.post(messages=list(messages), **given)
        assert response.status_code >= 400, response.text
        error: Json = response.json()["error"]
        return error

    @contextmanager
    def stream(self, *messages: Json, **given: Any) -> Iterator[Iterator[Json]]:
        """The events as they come."""
        body = request_of(messages=list(messages), **given)
        with self.http.stream("POST", "/ag-ui", json=body, headers=self.headers) as response:
            assert response.headers["content-type"] == "text/event-stream", response.read()
            yield map(checked, events_in(response.iter_lines()))

    def rpc(self, method: str, params: Json, path: str = "/tasks") -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = self.http.post(path, json=body, headers=self.headers).json()
        assert "error" not in reply, reply
        return reply["result"]


def request_of(**given: Any) -> Json:
    own = {"threadId": f"thread-{uuid4()}", "runId": f"run-{uuid4()}", "protocolVersion": "1.0", "messages": []}
    request = {name: value for name, value in {**own, **given}.items() if value is not None}
    core.RunAgentInput.model_validate(request)
    return request


def events_in(lines: Any) -> Iterator[Json]:
    return (orjson.loads(line[6:]) for line in lines if line.startswith("data: "))


def said(text: str) -> Json:
    """A message of the user."""
    return {"id": f"message-{uuid4()}", "role": "user", "content": text}


def types(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


def text_in(events: list[Json], *, subagent: str | None = None) -> str:
    """What an agent said."""
    mine = [event for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    return "".join(event["delta"] for event in mine if event.get("subagentRunId") == subagent)


def state_after(events: list[Json]) -> Json:
    """The state that the snapshot and the patches lead to."""
    state: Any = None
    for event in events:
        if event["type"] == "STATE_SNAPSHOT":
            state = copy.deepcopy(event["snapshot"])
        elif event["type"] == "STATE_DELTA":
            for operation in event["delta"]:
                _apply(state, operation)
    found: Json = state
    return found


def _apply(state: Any, operation: Json) -> None:
    *steps, last = operation["path"].split("/")[1:]
    for step in steps:
        state = state[int(step)] if isinstance(state, list) else state[step]
    if operation["op"] == "add":
        assert isinstance(state, list)
        assert last == "-"
        state.append(operation["value"])
    else:
        assert operation["op"] == "replace"
        assert last in state, operation
        state[last] = operation["value"]


def tree(*tasks: Json) -> Json:
    """`forwardedProps` of a tree."""
    return {"forwardedProps": {"tasks": list(tasks)}}


def task(name: str, executor: str | None, **fields: Any) -> Json:
    schemas = {} if executor is None else {"schemas": {"method": executor}}
    return {"id": f"{name}-{uuid4()}", "name": name, **schemas, **fields}


def question(**inputs: Any) -> Json:
    return task("ask", "approval_executor", inputs={"question": "Publish?", **inputs})
