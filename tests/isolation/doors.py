"""Every door of every method, found in the tables that the server itself answers by, with the requests that knock at it."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from a2a.mcp.eras import CAPABILITIES_FIELD, MODERN, VERSION_FIELD
from a2a.mcp.eras import NAMED as NAMED_IN_HEADER
from a2a.mcp.handles import EXTENSION
from a2a.mcp.methods import METHODS as MCP_METHODS
from a2a.mcp.tools.builtin import builtin_tools
from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.messages import ACTIONS
from a2a.protocol.bindings import http_json
from a2a.protocol.operations import OPERATIONS
from a2a.protocol.versions import VERSIONS
from a2a.rest.operations import ROUTES
from accounts.callers import Role
from apflow_site.edge.calls import DIALECTS
from tests.isolation.rows import (
    A2A,
    AG_UI,
    COMPLETIONS,
    FILES,
    MCP,
    NATIVE,
    RESPONSE,
    RESPONSES,
    REST,
    SYSTEM,
    TOOLS,
    Json,
    Row,
)
from tests.servers import LONG_WAY

NAMED: Final = re.compile(r"\(\?P<(\w+)>[^)]*\)")
"""A parameter in a path."""
IN_ROUTE: Final = re.compile(r"<(\w+)>")
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
CHANGING: Final = frozenset({"tasks/update", "tasks/cancel"})
"""The methods of MCP, besides calls of tools, that change something."""
PLACES: Final = {
    "task_id": "$task",
    "run_id": "$run",
    "call_id": "$model_call",
    "schedule_id": "$schedule",
    "webhook_id": "$webhook",
    "file_id": "$document",
    "name": "token",
    "flow": "no-such-flow",
    "provider": "openai",
    "executor_id": "no_such_executor",
    "experiment_id": "$task",
    "user_id": "rows-nobody",
}
"""What stands in the address for each parameter of a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A request, with names for ids in it. `method` is that of HTTP, or `WS` for a message on a WebSocket."""

    method: str
    path: str
    query: Any = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A method at an address: the lowest role that may use it, its row if there is one, and how a request is made of a row's parameters."""

    name: str
    role: Role
    row: Row | None
    shot: Callable[[Any], Shot]

    @property
    def own(self) -> Shot:
        return self.shot(self._row.own)

    @property
    def attacks(self) -> list[Shot]:
        first = [self.own] if "$" in f"{self.own.path}{self.own.query}{self.own.body}" else []
        return [*first, *map(self.shot, self._row.attacks)]

    @property
    def runs(self) -> bool:
        return self._row.runs

    @property
    def code(self) -> int | str | None:
        return self._row.code

    @property
    def _row(self) -> Row:
        assert self.row is not None
        return self.row


def doors() -> Iterator[Door]:
    yield from _json_rpc()
    yield from _a2a_json_rpc()
    yield from _a2a_http()
    yield from _rest()
    yield from _web_socket()
    yield from _mcp()
    yield Door(name="POST /ag-ui", role=Role.OPERATOR, row=AG_UI, shot=_request("POST", "/ag-ui"))
    yield from _openai()
    for method, row in FILES.items():
        role = Role.OPERATOR if method == "PUT" else Role.VIEWER
        yield Door(name=f"{method} /files/{{id}}", role=role, row=row, shot=_file_request(method))
    new = Shot(method="POST", path="/files", query={"name": "mine.txt"}, body="text")
    yield Door(name="POST /files", role=Role.OPERATOR, row=Row({}), shot=lambda params: new)
    events = Shot(method="GET", path="/tasks/$task/events")
    yield Door(name="GET /tasks/{id}/events", role=Role.VIEWER, row=Row({}, runs=True), shot=lambda params: events)


def _openai() -> Iterator[Door]:
    post = {"/responses": RESPONSES, "/v1/chat/completions": COMPLETIONS}
    for path, row in post.items():
        yield Door(name=f"POST {path}", role=Role.OPERATOR, row=row, shot=_request("POST", path))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        shot = Shot(method=method, path=f"/v1/responses/resp_$run{path}")
        role = Role.VIEWER if method == "GET" else Role.OPERATOR
        yield Door(name=f"{method} /v1/responses/{{id}}{path}", role=role, row=RESPONSE, shot=partial(_same, shot))
    models = Shot(method="GET", path="/v1/models")
    yield Door(name="GET /v1/models", role=Role.VIEWER, row=Row({}), shot=partial(_same, models))


def _same(shot: Shot, params: Any) -> Shot:
    return shot


def _file_request(method: str) -> Callable[[Any], Shot]:
    body = "text" if method == "PUT" else None
    return lambda query: Shot(method=method, path="/files/$document", query=query or None, body=body)


def _json_rpc() -> Iterator[Door]:
    for path, methods, rows in (
        ("/tasks", METHODS, NATIVE),
        ("/", METHODS, NATIVE),
        ("/system", SYSTEM_METHODS, SYSTEM),
    ):
        for name, method in methods.items():
            yield Door(name=f"{path} {name}", role=method.role, row=rows.get(name), shot=_call(path, name))
            if path in DIALECTS:
                shot = _call(path, name, headers=LONG_WAY)
                yield Door(name=f"{path} {name}, the long way", role=method.role, row=rows.get(name), shot=shot)


def _web_socket() -> Iterator[Door]:
    for name, method in METHODS.items():
        envelope = {"jsonrpc": "2.0", "method": name, "id": 1}
        yield Door(name=f"/ws {name}", role=method.role, row=NATIVE.get(name), shot=_message(envelope, place="params"))
    for action in sorted(ACTIONS.keys() - {"ping", "auth"}):  # these name nothing
        row = Row({"task_id": "$task"}, ({"task_id": "$leaf"},), runs=True)
        yield Door(name=f"/ws {action}", role=Role.VIEWER, row=row, shot=_message({"action": action}))


def _mcp() -> Iterator[Door]:
    """The tools and the other methods of MCP, with a client of an era that has them."""
    for tool in builtin_tools():
        yield Door(name=f"/mcp {tool.name}", role=tool.role, row=TOOLS.get(tool.name), shot=_tool_call(tool.name))
    for name, method in MCP_METHODS.items():
        if name != "tools/call":
            shot = _mcp_request(name, is_modern=method.is_modern)
            role = Role.OPERATOR if name in CHANGING else Role.VIEWER
            yield Door(name=f"/mcp {name}", role=role, row=MCP.get(name), shot=shot)


def _tool_call(name: str) -> Callable[[Any], Shot]:
    shot = _mcp_request("tools/call", is_modern=True)
    return lambda params: shot({"name": name, "arguments": params})


def _mcp_request(method: str, *, is_modern: bool) -> Callable[[Any], Shot]:
    envelope = {"jsonrpc": "2.0", "method": method, "id": 1}
    meta = (
        {"_meta": {VERSION_FIELD: MODERN[0], CAPABILITIES_FIELD: {"extensions": {EXTENSION: {}}}}} if is_modern else {}
    )

    def shot(params: Json) -> Shot:
        headers = {"MCP-Protocol-Version": MODERN[0], "Mcp-Method": method} if is_modern else {}
        if method == "subscriptions/listen":
            headers["Accept"] = "application/json, text/event-stream"
        if is_modern and method in NAMED_IN_HEADER:
            headers["Mcp-Name"] = params[NAMED_IN_HEADER[method]]
        return Shot(method="POST", path="/mcp", body=envelope | {"params": params | meta}, headers=headers)

    return shot


def _message(fixed: Mapping[str, Any], *, place: str | None = None) -> Callable[[Any], Shot]:
    return lambda params: Shot(method="WS", path="/ws", body={**fixed, **({place: params} if place else params)})


def _a2a_json_rpc() -> Iterator[Door]:
    for version in VERSIONS:
        for name, operation in version.methods.items():
            yield Door(name=f"/ {name}", role=OPERATIONS[operation].role, row=A2A.get(name), shot=_call("/", name))


def _call(path: str, name: str, *, headers: Mapping[str, str] = NO_HEADERS) -> Callable[[Any], Shot]:
    envelope = {"jsonrpc": "2.0", "method": name, "id": 1}
    return lambda params: Shot(method="POST", path=path, body=envelope | {"params": params}, headers=headers)


def _a2a_http() -> Iterator[Door]:
    newer = {**http_json.ROUTES, "tasks": http_json.LIST, "extendedAgentCard": http_json.CARD}
    older = {**http_json.ROUTES, "tasks": http_json.LIST, "card": http_json.CARD}
    messages = {"SendMessage": "message/send", "SendStreamingMessage": "message/stream"}  # the shape of these differs
    for prefix, routes, rows in (("/", newer, A2A), ("/v1/", older, {**A2A, **_renamed(messages)})):
        for path, operations in routes.items():
            for method, operation in operations.items():
                yield Door(
                    name=f"{method} {prefix}{NAMED.sub('{id}', path)}",
                    role=OPERATIONS[operation].role,
                    row=rows.get(operation),
                    shot=_request(method, f"{prefix}{path}"),
                )


def _renamed(names: Mapping[str, str]) -> dict[str, Row]:
    return {name: A2A[known_as] for name, known_as in names.items()}


def _rest() -> Iterator[Door]:
    for route, operations in ROUTES.items():
        for method, operation in operations.items():
            yield Door(
                name=f"{method} /api/{route}",
                role=operation.method.role,
                row=REST.get(operation.rest.name),
                shot=_request(method, f"/api/{IN_ROUTE.sub(lambda found: PLACES[found[1]], route)}"),
            )


def _request(method: str, path: str) -> Callable[[Any], Shot]:
    """Parameters that the path names go there, the others into the body or the query."""

    def shot(params: Mapping[str, Any]) -> Shot:
        named = NAMED.findall(path)
        filled = NAMED.sub(lambda found: str(params[found[1]]), path)
        rest = {name: value for name, value in params.items() if name not in named}
        is_body = method in ("POST", "PUT", "PATCH")
        return Shot(
            method=method, path=filled, query=None if is_body else rest or None, body=rest or None if is_body else None
        )

    return shot
