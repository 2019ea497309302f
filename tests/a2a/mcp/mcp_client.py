"""A client of MCP for tests: it speaks both eras, and shows whole replies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

import httpx
import orjson

Json = dict[str, Any]
MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
PREFIX: Final = "io.modelcontextprotocol/"
NAMES: Final = {"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}
NAMES_OF_TASKS: Final = dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId")
numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client of one era: what each of its requests says."""

    http: httpx.Client
    version: str = MODERN
    token: str | None = None
    capabilities: Json = field(default_factory=dict)
    session: str | None = None

    @property
    def is_modern(self) -> bool:
        return self.version == MODERN

    def request(self, method: str, params: Json, **meta: Any) -> tuple[Json, dict[str, str]]:
        """The body and the headers of a request."""
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": self.version}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.session is not None:
            headers["Mcp-Session-Id"] = self.session
        if self.is_modern:
            headers["Mcp-Method"] = method
            if (name := {**NAMES, **NAMES_OF_TASKS}.get(method)) in params:
                headers["Mcp-Name"] = str(params[name])
            meta |= {f"{PREFIX}protocolVersion": self.version, f"{PREFIX}clientCapabilities": self.capabilities}
        body = {"jsonrpc": "2.0", "id": next(numbers), "method": method, "params": params}
        if meta:
            body["params"] = params | {"_meta": meta}
        return body, headers

    def begun(self, **capabilities: Any) -> "Client":
        """The same client in a session, with these capabilities."""
        info = {"name": "a-client", "version": "1"}
        said = {"protocolVersion": self.version, "capabilities": capabilities, "clientInfo": info}
        return replace(self, session=self.post("initialize", said).headers["mcp-session-id"])

    def reply(self, request_id: str, **body: Any) -> None:
        """Reply to a request of the server."""
        message = {"jsonrpc": "2.0", "id": request_id} | body
        response = self.http.post("/mcp", json=message, headers=self.request("ping", {})[1])
        assert (response.status_code, response.content) == (202, b"")

    def cancel(self, call_id: Any, *, at: httpx.Client | None = None) -> None:
        """Cancel a call of the session, `at` any process of the server."""
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call_id}}
        response = (at or self.http).post("/mcp", json=message, headers=self.request("ping", {})[1])
        assert (response.status_code, response.content) == (202, b"")

    def post(self, method: str, params: Json | None = None, **meta: Any) -> httpx.Response:
        body, headers = self.request(method, params or {}, **meta)
        return self.http.post("/mcp", json=body, headers=headers)

    def messages(self, method: str, params: Json | None = None, **meta: Any) -> list[Json]:
        """All messages of the reply, of a stream or of one JSON object."""
        response = self.post(method, params, **meta)
        if response.headers["content-type"] == "text/event-stream":
            return [orjson.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
        found: Json = response.json()
        return [found]

    def result(self, method: str, params: Json | None = None, **meta: Any) -> Json:
        """The result of a request that works."""
        reply = self.messages(method, params, **meta)[-1]
        assert "error" not in reply, reply
        result: Json = reply["result"]
        assert not self.is_modern or "resultType" in result
        return result

    def error(self, method: str, params: Json | None = None, **meta: Any) -> Json:
        """The error of a request that is refused."""
        reply = self.messages(method, params, **meta)[-1]
        assert "result" not in reply, reply
        found: Json = reply["error"]
        return found

    def call(self, tool: str, **arguments: Any) -> Json:
        """The result of a tool."""
        return self.result("tools/call", {"name": tool, "arguments": arguments})

    def data(self, tool: str, **arguments: Any) -> Any:
        """The data of a tool that works."""
        result = self.call(tool, **arguments)
        assert not result.get("isError"), result
        return result["structuredContent"]

    @contextmanager
    def changes(self) -> Iterator[Iterator[Json]]:
        """The stream of the session."""
        with self.http.stream("GET", "/mcp", headers=self.request("ping", {})[1]) as response:
            assert response.headers["content-type"] == "text/event-stream", response.read()
            yield (orjson.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))

    @contextmanager
    def calling(self, tool: str, **arguments: Any) -> Iterator[tuple[Any, "Events"]]:
        """The id of a call of a tool that sends its progress, and the events of its stream."""
        body, headers = self.request("tools/call", {"name": tool, "arguments": arguments}, progressToken="mine")
        with self.http.stream("POST", "/mcp", json=body, headers=headers) as response:
            yield body["id"], events_in(response)

    @contextmanager
    def resumed(self, last_event_id: str, *, at: httpx.Client | None = None) -> Iterator["Events"]:
        """The events of a stream after the last one that the client has."""
        headers = self.request("ping", {})[1] | {"Last-Event-ID": last_event_id}
        with (at or self.http).stream("GET", "/mcp", headers=headers) as response:
            yield events_in(response)

    @contextmanager
    def stream(self, method: str, params: Json, **meta: Any) -> Iterator[Iterator[Json]]:
        """The messages as they come."""
        body, headers = self.request(method, params, **meta)
        with self.http.stream("POST", "/mcp", json=body, headers=headers) as response:
            assert response.headers["content-type"] == "text/event-stream", response.read()
            yield (orjson.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))


Events = Iterator[tuple[str | None, Json | None]]
"""The id and the message of each event, None if it has none."""


def events_in(response: httpx.Response) -> Events:
    assert response.headers["content-type"] == "text/event-stream", response.read()
    event_id = None
    for line in response.iter_lines():
        if line.startswith("id: "):
            event_id = line[4:]
        elif line.startswith("data:"):
            yield event_id, orjson.loads(line[5:]) if line[5:].strip() else None
            event_id = None
