"""`POST /mcp`: the handshake of older clients, the fields and headers of newer ones, and what is refused."""

import base64
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import LEGACY, MODERN, PREFIX, Client, Json
from tests.servers import Server

INFO: Json = {"name": "a-client", "version": "1"}
TOOLS = [
    *("answer_question", "approval_executor", "backfill_schedule", "cancel_run", "create_schedule", "delete_schedule"),
    *("echo_executor", "generate_tree", "get_experiment", "get_run", "get_schedule", "link_file"),
    *("list_executors", "list_hook_deliveries", "list_inbound_hooks", "list_limits", "list_runs", "list_schedule_runs"),
    *("list_schedules", "pause_flow", "pause_schedule", "preview_schedule", "replay_hook_delivery"),
    *("resume_flow", "resume_schedule", "run_flow", "run_tree", "scripted_executor", "send_event"),
    *(
        "set_feedback",
        "set_inbound_hook",
        "show_flow",
        "show_run",
        "sleep_executor",
        "trigger_schedule",
        "update_schedule",
        "watch_run",
    ),
]
MOST_BYTES = 32_000
OF_ADMINS = [f"{verb}_{kind}" for verb in ("pause", "resume") for kind in ("executor", "provider", "user")]
FOR_VIEWERS = [name for name in TOOLS if name.startswith(("get_", "link_", "list_", "preview_", "show_", "watch_"))]


def code_of(response: httpx.Response) -> tuple[int, int]:
    return response.status_code, response.json()["error"]["code"]


# --- up to 2025-11-25 ---


@pytest.mark.parametrize(
    ("wanted", "agreed"),
    [(LEGACY, LEGACY), ("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"), ("1999-01-01", LEGACY)],
)
def test_an_older_client_agrees_on_a_version_and_gets_a_session(legacy: Client, wanted: str, agreed: str) -> None:
    response = legacy.post("initialize", {"protocolVersion": wanted, "capabilities": {}, "clientInfo": INFO})
    result = response.json()["result"]
    assert (result["protocolVersion"], result["serverInfo"]["name"]) == (agreed, "aipartnerupflow")
    assert "tools" in result["capabilities"]
    assert replace(legacy, session=response.headers["mcp-session-id"]).result("ping") == {}


def test_a_session_is_for_its_user(legacy: Client) -> None:
    session = legacy.begun().session
    for wrong in (replace(legacy, token=token_of("bob"), session=session), replace(legacy, session=f"{session}x")):
        assert code_of(wrong.post("tools/list")) == (404, -32001)
        stream = wrong.http.get("/mcp", headers=wrong.request("ping", {})[1])
        assert (stream.status_code, stream.json()["error"]["code"]) == (404, -32001)


def test_a_client_ends_its_session_and_no_other(legacy: Client) -> None:
    client = legacy.begun()
    bob = replace(legacy, token=token_of("bob"), session=client.session)
    theirs, missing = (deleted(each) for each in (bob, replace(legacy, session="nothing")))
    assert (theirs.status_code, theirs.content) == (missing.status_code, missing.content) == (404, missing.content)
    assert client.result("ping") == {}
    ended = deleted(client)
    assert (ended.status_code, ended.content) == (204, b"")
    _, headers = client.request("ping", {})
    reply = {"jsonrpc": "2.0", "id": "nothing", "result": {}}
    assert code_of(client.post("ping")) == (404, -32001)
    refused = (client.http.get("/mcp", headers=headers), deleted(client))
    for each in (*refused, client.http.post("/mcp", json=reply, headers=headers)):
        assert code_of(each) == (404, -32001)
    assert legacy.begun().result("ping") == {}


def deleted(client: Client) -> httpx.Response:
    return client.http.delete("/mcp", headers=client.request("ping", {})[1])


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 7, "result": {}},
    ],
)
def test_notifications_and_replies_are_accepted(legacy: Client, message: Json) -> None:
    _, headers = legacy.request("ping", {})
    response = legacy.http.post("/mcp", json=message, headers=headers)
    assert (response.status_code, response.content) == (202, b"")


def test_an_older_client_pings_and_sets_the_level_of_logs(legacy: Client) -> None:
    assert legacy.result("ping") == {}
    assert legacy.result("logging/setLevel", {"level": "debug"}) == {}


def test_errors_in_calls_of_older_clients_are_no_errors_of_http(legacy: Client) -> None:
    assert code_of(legacy.post("no/such/method")) == (200, -32601)
    assert code_of(legacy.post("server/discover")) == (200, -32601)
    assert code_of(legacy.post("initialize", {})) == (200, -32602)


def test_a_version_that_is_not_spoken_is_refused(legacy: Client) -> None:
    body, headers = legacy.request("tools/list", {})
    response = legacy.http.post("/mcp", json=body, headers=headers | {"MCP-Protocol-Version": "2024-01-01"})
    assert code_of(response) == (400, -32022)


# --- 2026-07-28 ---


def test_a_newer_client_discovers_the_server(modern: Client) -> None:
    result = modern.result("server/discover")
    assert (result["supportedVersions"], result["resultType"]) == ([MODERN], "complete")
    assert result["_meta"][f"{PREFIX}serverInfo"]["name"] == "aipartnerupflow"
    assert result["ttlMs"] > 0
    assert result["cacheScope"] == "public"


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/such/method"])
def test_methods_that_are_gone_are_not_found(modern: Client, method: str) -> None:
    assert code_of(modern.post(method)) == (404, -32601)


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        (None, -32602),
        ({f"{PREFIX}protocolVersion": MODERN}, -32602),
        ({f"{PREFIX}clientCapabilities": {}}, -32602),
        ({f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": []}, -32602),
        ({f"{PREFIX}protocolVersion": "1999-01-01", f"{PREFIX}clientCapabilities": {}}, -32020),
        ({f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}, f"{PREFIX}logLevel": "loud"}, -32602),
    ],
)
def test_the_fields_of_each_request_are_checked(modern: Client, meta: Json | None, code: int) -> None:
    body, headers = modern.request("tools/list", {})
    body["params"] = {} if meta is None else {"_meta": meta}
    response = modern.http.post("/mcp", json=body, headers=headers)
    assert code_of(response) == (400, code)
    assert response.json()["id"] == body["id"]


def test_a_future_version_is_answered_with_those_that_are_spoken(modern: Client) -> None:
    future = Client(http=modern.http, token=modern.token)
    body, headers = future.request("tools/list", {})
    body["params"]["_meta"][f"{PREFIX}protocolVersion"] = "2099-01-01"
    response = modern.http.post("/mcp", json=body, headers=headers | {"MCP-Protocol-Version": "2099-01-01"})
    assert code_of(response) == (400, -32022)
    assert response.json()["error"]["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Mcp-Method", "TOOLS/CALL"),
        ("Mcp-Method", None),
        ("Mcp-Name", "another_tool"),
        ("Mcp-Name", None),
        ("Mcp-Name", "=?base64?not-base64?="),
        ("MCP-Protocol-Version", None),
        ("MCP-Protocol-Version", LEGACY),
    ],
)
def test_headers_that_differ_from_the_body_are_refused(modern: Client, header: str, value: str | None) -> None:
    body, headers = modern.request("tools/call", {"name": "list_runs", "arguments": {}})
    headers.pop(header)
    response = modern.http.post("/mcp", json=body, headers=headers | ({} if value is None else {header: value}))
    assert code_of(response) == (400, -32020)


def test_the_name_in_a_header_may_be_encoded(modern: Client) -> None:
    body, headers = modern.request("tools/call", {"name": "list_runs", "arguments": {}})
    name = f"=?base64?{base64.b64encode(b'list_runs').decode()}?="
    assert modern.http.post("/mcp", json=body, headers=headers | {"Mcp-Name": name}).json()["result"]


# --- both ---


def test_tools_are_listed_by_name_with_schemas_and_hints(alice: Client) -> None:
    result = alice.result("tools/list")
    tools = {tool["name"]: tool for tool in result["tools"]}
    assert list(tools) == TOOLS
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools.values())
    runs = {name for name, tool in tools.items() if "outputSchema" in tool}
    assert runs == {
        "get_run",
        *(name for name in TOOLS if name.startswith(("generate_", "run_")) or "executor" in name),
    } - {"list_executors"}
    hints = {name: tool["annotations"] for name, tool in tools.items()}
    assert [name for name in TOOLS if hints[name]["readOnlyHint"]] == sorted(
        [*FOR_VIEWERS, "echo_executor", "sleep_executor"]
    )
    assert [name for name in TOOLS if hints[name]["destructiveHint"]] == [
        "cancel_run",
        "delete_schedule",
        "scripted_executor",
    ]


def test_the_list_of_tools_is_short(alice: Client) -> None:
    """A host gives it to its model with each message. It had 67 KB with the schemas of results and of tasks."""
    admin = Client(http=alice.http, version=alice.version, token=token_of("root", "admin"))
    offered = {name for name in TOOLS if name.endswith("_executor")}
    tools = [tool for tool in admin.result("tools/list")["tools"] if tool["name"] not in offered]
    assert len(tools) == len(TOOLS) - len(offered) + len(OF_ADMINS)
    assert len(orjson.dumps(tools)) < MOST_BYTES


def test_the_list_of_executors_has_what_the_list_of_tools_leaves_out(alice: Client) -> None:
    (echo,) = alice.data("list_executors", ids=["echo_executor"])["executors"]
    assert "input_schema" in echo
    found = alice.data("list_executors", ids=["echo_executor"], with_task_schema=True)["task_schema"]
    assert {"retry", "when", "for_each"} <= found["$defs"]["TaskParams"]["properties"].keys()
    (tool,) = (tool for tool in alice.result("tools/list")["tools"] if tool["name"] == "run_tree")
    _, short = tool["inputSchema"]["properties"]["tasks"]["anyOf"]
    assert short["properties"].keys() <= found["properties"].keys()
    refused = alice.call("list_executors", ids=["echo_executo"])
    assert "echo_executor" in refused["content"][0]["text"]


def test_who_only_reads_sees_and_calls_what_reads(alice: Client) -> None:
    viewer = Client(http=alice.http, version=alice.version, token=token_of("victor", "viewer"))
    assert [tool["name"] for tool in viewer.result("tools/list")["tools"]] == FOR_VIEWERS
    refused = viewer.post("tools/call", {"name": "run_tree", "arguments": {"tasks": {"name": "a"}}})
    assert refused.status_code == 403


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_is_only_post(mcp_server: Server, method: str) -> None:
    response = mcp_server.http.request(method, "/mcp", headers={"Accept": "text/event-stream"})
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


def test_a_client_logs_in(alice: Client) -> None:
    anonymous = Client(http=alice.http, version=alice.version)
    body, headers = anonymous.request("tools/list", {})
    response = anonymous.http.post("/mcp", json=body, headers=headers)
    assert (response.status_code, response.json()["id"]) == (401, body["id"])
    for nothing in (b"{", b"[]", b""):
        refused = anonymous.http.post("/mcp", content=nothing, headers=headers)
        assert (refused.status_code, refused.json()["id"]) == (401, None)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_page_of_another_origin_is_refused(alice: Client) -> None:
    body, headers = alice.request("tools/list", {})
    refused = alice.http.post("/mcp", json=body, headers=headers | {"Origin": "https://evil.example"})
    assert refused.status_code == 403
    own = str(alice.http.base_url).rstrip("/")
    assert alice.http.post("/mcp", json=body, headers=headers | {"Origin": own}).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
        (b'"ping"', -32600),
        (b"{}", -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', -32600),
    ],
)
def test_what_is_no_message_is_refused(alice: Client, body: bytes, code: int) -> None:
    _, headers = alice.request("tools/list", {})
    headers["Content-Type"] = "application/json"
    assert code_of(alice.http.post("/mcp", content=body, headers=headers)) == (400, code)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {"cursor": 5}),
        ("tools/call", {}),
        ("tools/call", {"name": 5}),
        ("tools/call", {"name": "run_tree", "arguments": []}),
        ("tools/call", {"name": "no_such_tool"}),
        ("resources/list", {"cursor": "nonsense"}),
        ("resources/read", {}),
    ],
)
def test_wrong_parameters_are_refused(alice: Client, method: str, params: Any) -> None:
    response = alice.post(method, params)
    assert code_of(response) == (400 if alice.is_modern else 200, -32602)
