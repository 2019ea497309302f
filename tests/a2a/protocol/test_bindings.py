"""A2A 1.0, bindings: JSON-RPC and HTTP+JSON, each by its rules, and both with the same answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from a2a.core import exceptions as errors
from a2a.core.errors import ERRORS as CODES
from a2a.core.exceptions import UnsupportedMediaType
from a2a.protocol.errors import REASONS, as_failure, as_http
from a2a.protocol.operations import OPERATIONS
from tasks.rules.exceptions import TaskNotFound
from tests.a2a.a2a_client import (
    BRIEF,
    ECHO,
    FAILING,
    SLOW,
    Agent,
    Json,
    agent_of,
    data,
    gated,
    message,
    states_of,
    text,
)
from tests.a2a.schemas import check
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

INFO = "type.googleapis.com/google.rpc.ErrorInfo"
Http = Callable[..., httpx.Response]

#: The errors of A2A: the code in JSON-RPC, the HTTP status, the reason.
ERRORS = {
    "TaskNotFound": (TaskNotFound("x"), -32001, 404, "TASK_NOT_FOUND"),
    "TaskNotCancelable": (errors.TaskNotCancelable("x"), -32002, 409, "TASK_NOT_CANCELABLE"),
    "PushNotificationNotSupported": (
        errors.PushNotificationNotSupported("x"),
        -32003,
        400,
        "PUSH_NOTIFICATION_NOT_SUPPORTED",
    ),
    "UnsupportedOperation": (errors.UnsupportedOperation("x"), -32004, 400, "UNSUPPORTED_OPERATION"),
    "ContentTypeNotSupported": (errors.ContentTypeNotSupported("x"), -32005, 400, "CONTENT_TYPE_NOT_SUPPORTED"),
    "ContentTypeOfBody": (UnsupportedMediaType("x"), -32005, 415, "CONTENT_TYPE_NOT_SUPPORTED"),
    "ExtendedCardNotConfigured": (
        errors.ExtendedCardNotConfigured("x"),
        -32007,
        400,
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
    ),
    "EventsGone": (errors.EventsGone("x", first=1, last=2), -32040, 410, "EVENTS_GONE"),
    "ExtensionSupportRequired": (errors.ExtensionSupportRequired("x"), -32008, 400, "EXTENSION_SUPPORT_REQUIRED"),
    "VersionNotSupported": (errors.VersionNotSupported("x"), -32009, 400, "VERSION_NOT_SUPPORTED"),
}


@pytest.fixture
def http(alice: Agent) -> Http:
    """A request to the HTTP+JSON binding."""

    def request(method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return alice.http.request(method, path, json=body, headers=alice.headers | headers)

    return request


def streamed(alice: Agent, method: str, path: str, body: Any = None, *, gate: Path | None = None) -> list[Json]:
    """All results of a stream; the gate is opened after the first."""
    results = []
    with alice.http.stream(method, path, json=body, headers=alice.headers) as response:
        assert (response.status_code, response.headers["Content-Type"]) == (200, "text/event-stream")
        for line in filter(None, response.iter_lines()):
            results.append(orjson.loads(line.removeprefix("data: ")))
            if gate:
                gate.touch()
    return results


# --- errors ---


@pytest.mark.requirement("JSONRPC-ERR-001", "JSONRPC-ERR-002", "JSONRPC-ERR-003", "JSONRPC-SSE-002")
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_a2a_in_json_rpc(name: str) -> None:
    error, code, _, reason = ERRORS[name]
    failure = as_failure(error).to_json()["error"]
    assert failure.keys() == {"code", "message", "data"}
    assert failure["code"] == code
    assert -32099 <= code <= -32001
    (info,) = failure["data"]
    assert info | {"metadata": {}} == {"@type": INFO, "reason": reason, "domain": "a2a-protocol.org", "metadata": {}}


@pytest.mark.requirement("HTTP_JSON-ERR-001", "HTTP_JSON-ERR-002", "HTTP_JSON-STATUS-001", "BIND-EQUIV-003")
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_a2a_in_http(name: str) -> None:
    error, code, status, reason = ERRORS[name]
    answered, body = as_http(error)
    assert answered == status
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"code", "status", "message", "details"}
    assert body["error"]["code"] == status
    assert body["error"]["details"] == as_failure(error).data
    assert as_failure(error).code == code
    assert body["error"]["details"][0]["reason"] == reason


def test_what_is_no_error_of_a2a_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    status, body = as_http(RuntimeError("sk-secret"))
    assert (status, body["error"]["status"]) == (500, "INTERNAL")
    assert "sk-secret" not in str(body)
    reason, request = body["error"]["details"]
    assert (reason["@type"], reason["reason"]) == (INFO, "INTERNAL_ERROR")
    assert request["requestId"] in caplog.text


def test_the_table_has_each_error_once() -> None:
    reasons = [codes.a2a.reason for codes in CODES.values() if codes.a2a.reason]
    assert {reason for _, _, _, reason in ERRORS.values()} == set(reasons)


# --- JSON-RPC ---


@pytest.mark.requirement("JSONRPC-FMT-001", "JSONRPC-FMT-002")
@pytest.mark.parametrize("call_id", [1, "one", None])
@pytest.mark.parametrize("path", ["/", ""])
def test_a_json_rpc_response_has_the_requests_id(alice: Agent, call_id: Any, path: str) -> None:
    request = {"jsonrpc": "2.0", "id": call_id, "method": "ListTasks", "params": {"pageSize": 1}}
    response = alice.http.post(path, json=request, headers=alice.headers)
    assert response.headers["Content-Type"] == "application/json"
    reply = response.json()
    assert (reply["jsonrpc"], reply["id"], reply.keys()) == ("2.0", call_id, {"jsonrpc", "id", "result"})


@pytest.mark.requirement("JSONRPC-FMT-002")
def test_another_content_type_is_refused_in_json(alice: Agent) -> None:
    response = alice.http.post("/", content="{}", headers=alice.headers | {"Content-Type": "text/plain"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, -32005)
    assert response.json()["error"]["data"][0]["reason"] == "CONTENT_TYPE_NOT_SUPPORTED"


@pytest.mark.requirement("JSONRPC-SVC-001")
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_a_method_by_its_name(alice: Agent, name: str) -> None:
    reply = alice.post(name, {"id": "nowhere", "taskId": "nowhere", "url": "https://example.com/"}).json()
    assert reply.get("error", {}).get("code") != -32601


@pytest.mark.requirement("JSONRPC-SVC-002", "HTTP_JSON-SVC-002")
def test_what_belongs_to_the_service_stands_in_headers(alice: Agent, http: Http) -> None:
    assert alice.error("GetTask", {"id": "x"}, **{"A2A-Version": "9.9"})["code"] == -32009
    refused = http("GET", "/tasks/x", **{"A2A-Version": "9.9"})
    assert (refused.status_code, refused.json()["error"]["details"][0]["reason"]) == (400, "VERSION_NOT_SUPPORTED")


def test_calls_may_come_in_batches_and_streams_may_not(alice: Agent) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}},
        {"jsonrpc": "2.0", "id": 2, "method": "SendStreamingMessage", "params": {"message": data(ECHO)}},
        {"jsonrpc": "2.0", "id": 3, "method": "tasks.count", "params": {}},
        {"jsonrpc": "2.0", "method": "GetTask", "params": {"id": "nowhere"}},
    ]
    first, second, third = alice.http.post("/", json=calls, headers=alice.headers).json()
    assert first["result"]["pageSize"] == 50
    assert (second["id"], second["error"]["code"]) == (2, -32602)
    assert third["result"]["kind"] == "message"


# --- HTTP+JSON ---


@pytest.mark.requirement("HTTP_JSON-URL-001", "HTTP_JSON-URL-002", "HTTP_JSON-SVC-001")
@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/message:send", {}, 400),
        ("POST", "/message:stream", {}, 400),
        ("GET", "/tasks", None, 200),
        ("GET", "/tasks/nowhere", None, 404),
        ("POST", "/tasks/nowhere:cancel", {}, 404),
        ("POST", "/tasks/nowhere:subscribe", None, 404),
        ("GET", "/tasks/nowhere:subscribe", None, 404),
        ("POST", "/tasks/nowhere/pushNotificationConfigs", {"url": "https://example.com/"}, 404),
        ("GET", "/tasks/nowhere/pushNotificationConfigs", None, 404),
        ("GET", "/tasks/nowhere/pushNotificationConfigs/c", None, 404),
        ("DELETE", "/tasks/nowhere/pushNotificationConfigs/c", None, 404),
    ],
)
def test_every_operation_has_its_address(
    alice: Agent, prefix: str, method: str, path: str, body: Any, status: int
) -> None:
    headers = alice.headers | {"A2A-Version": "0.3" if prefix else "1.0"}
    response = alice.http.request(method, f"{prefix}{path}", json=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    if status != 200:
        assert response.json()["error"]["code"] == status


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/message:send", "POST"),
        ("DELETE", "/tasks/x", "GET"),
        ("PUT", "/tasks/x/pushNotificationConfigs/c", "GET, DELETE"),
        ("POST", "/extendedAgentCard", "GET"),
    ],
)
def test_another_http_method_is_refused(http: Http, method: str, path: str, allowed: str) -> None:
    response = http(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)
    assert response.json()["error"]["status"] == "UNIMPLEMENTED"


@pytest.mark.requirement("BIND-EQUIV-001", "BIND-EQUIV-002")
def test_a_task_goes_its_way_over_http(alice: Agent, http: Http) -> None:
    sent = http("POST", "/message:send", {"message": data(ECHO)}).json()
    check(sent, "SendMessageResponse")
    task = sent["task"]
    assert http("GET", f"/tasks/{task['id']}").json() == alice.get(task["id"]) == task
    found = {"contextId": task["contextId"]}
    assert http("GET", f"/tasks?contextId={task['contextId']}").json() == alice.call("ListTasks", found)
    refused = http("POST", f"/tasks/{task['id']}:cancel")
    assert (refused.status_code, refused.json()["error"]["status"]) == (409, "FAILED_PRECONDITION")
    working = http(
        "POST", "/message:send", {"message": data(SLOW), "configuration": {"returnImmediately": True}}
    ).json()
    cancelled = http("POST", f"/tasks/{working['task']['id']}:cancel", {}).json()
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    card = http("GET", "/extendedAgentCard").json()
    check(card, "AgentCard")


@pytest.mark.requirement("HTTP_JSON-QP-001")
def test_what_a_query_says_is_in_camel_case_and_of_its_type(alice: Agent, http: Http) -> None:
    task = alice.send(data(ECHO))
    query = (
        f"contextId={task['contextId']}&pageSize=1&includeArtifacts=true&historyLength=5&status=TASK_STATE_COMPLETED"
    )
    assert http("GET", f"/tasks?{query}").json()["tasks"] == [task]
    assert "history" not in http("GET", f"/tasks/{task['id']}?historyLength=0").json()
    wrong = http("GET", "/tasks?pageSize=many")
    reason, violations = wrong.json()["error"]["details"]
    assert reason["reason"] == "INVALID_PARAMS"
    assert violations["fieldViolations"][0]["field"] == "pageSize"


@pytest.mark.requirement("HTTP_JSON-SSE-001")
def test_streams_over_http_are_the_bare_responses(alice: Agent, http: Http, tmp_path: Path) -> None:
    results = streamed(alice, "POST", "/message:stream", {"message": data(BRIEF)})
    for result in results:
        check(result, "StreamResponse")
    assert states_of(results)[-1] == "COMPLETED"
    for method in ("GET", "POST"):
        gate = tmp_path / method
        task_id = alice.start(data(gated(gate)))["id"]
        again = streamed(alice, method, f"/tasks/{task_id}:subscribe", gate=gate)
        assert (again[0]["task"]["id"], states_of(again)[-1]) == (task_id, "COMPLETED")


def test_push_configs_over_http(alice: Agent, http: Http) -> None:
    task_id = alice.asking()["id"]
    address = f"/tasks/{task_id}/pushNotificationConfigs"
    made = http("POST", address, {"id": "mine", "url": "https://example.com/hook"}).json()
    check(made, "PushConfig")
    assert http("GET", f"{address}/mine").json() == made
    assert http("GET", address).json() == {"configs": [made], "nextPageToken": ""}
    assert [http("DELETE", f"{address}/mine").json() for _ in range(2)] == [{}, {}]
    assert http("GET", f"{address}/mine").status_code == 404


@pytest.mark.parametrize("accept", ["application/json", "application/a2a+json", "*/*"])
def test_the_answer_has_the_content_type_that_is_asked_for(alice: Agent, accept: str) -> None:
    body = orjson.dumps({"message": data(ECHO)})
    headers = alice.headers | {"Content-Type": "application/a2a+json", "Accept": accept}
    response = alice.http.post("/message:send", content=body, headers=headers)
    assert response.status_code == 200
    wanted = "application/a2a+json" if "a2a" in accept else "application/json"
    assert response.headers["Content-Type"] == wanted


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b'{"message": 7}', "application/json", 400),
    ],
)
def test_what_is_no_request_is_refused_over_http(alice: Agent, content: bytes, kind: str, status: int) -> None:
    headers = alice.headers | {"Content-Type": kind}
    response = alice.http.post("/message:send", content=content, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (status, status)


def test_a_path_with_nul_is_refused(http: Http) -> None:
    assert http("GET", "/tasks/%00").status_code == 400


@pytest.mark.requirement("BIND-EQUIV-002", "BIND-EQUIV-003")
@pytest.mark.parametrize(
    "params",
    [
        {"message": message({"raw": "AAAA", "mediaType": "image/png"})},
        {"message": text("x", taskId="nowhere")},
        {"message": data({"tasks": []})},
        {},
    ],
)
def test_both_bindings_refuse_alike(alice: Agent, http: Http, params: Json) -> None:
    over_rpc, over_http = alice.error("SendMessage", params), http("POST", "/message:send", params).json()["error"]
    assert over_rpc["message"] == over_http["message"]
    without_reason = [detail for detail in over_http["details"] if detail.get("reason") not in REASONS.values()]
    assert over_rpc.get("data", []) == without_reason


def test_a_client_of_0_3_speaks_its_own_json_over_http(old_alice: Agent) -> None:
    part = {"data": {"data": FAILING}}
    body = {
        "message": {"messageId": "m", "role": "ROLE_USER", "content": [part]},
        "configuration": {"blocking": True},
    }
    task = old_alice.http.post("/v1/message:send", json=body, headers=old_alice.headers).json()["task"]
    assert task["status"]["state"] == "TASK_STATE_FAILED"
    assert task["status"]["message"]["content"][0]["text"]
    assert task["history"][0]["content"] == [part]
    read = old_alice.http.get(f"/v1/tasks/{task['id']}", headers=old_alice.headers).json()
    assert read == task
    lines = streamed(old_alice, "POST", "/v1/message:stream", body)
    assert lines[-1]["statusUpdate"]["final"] is True


def test_what_a_client_of_0_3_says_in_json_rpcs_words_is_understood_over_http_too(old_alice: Agent) -> None:
    said = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "data", "data": ECHO}]}
    reply = old_alice.http.post("/v1/message:send", json={"message": said}, headers=old_alice.headers).json()
    assert reply["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_a_client_of_0_3_lists_what_was_cancelled_by_its_own_name(old_alice: Agent) -> None:
    said = {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "what?"}]}
    task = old_alice.http.post("/v1/message:send", json={"message": said}, headers=old_alice.headers).json()["task"]
    old_alice.http.post(f"/v1/tasks/{task['id']}:cancel", headers=old_alice.headers)
    named = {"contextId": task["contextId"], "status": "TASK_STATE_CANCELLED"}
    (listed,) = old_alice.http.get("/v1/tasks", params=named, headers=old_alice.headers).json()["tasks"]
    assert (listed["id"], listed["status"]["state"]) == (task["id"], "TASK_STATE_CANCELLED")


@pytest.mark.parametrize(
    ("parts", "role", "config"),
    [("content", "ROLE_USER", "pushNotification"), ("parts", "user", "pushNotificationConfig")],
)
def test_a_push_config_of_0_3_that_comes_over_http_is_called_default(
    old_alice: Agent, parts: str, role: str, config: str
) -> None:
    said = {"messageId": "m", "role": role, parts: [{"text": "what?"}]}
    body = {"message": said, "configuration": {config: {"url": "https://example.com/hook"}}}
    task = old_alice.http.post("/v1/message:send", json=body, headers=old_alice.headers).json()["task"]
    path = f"tasks/{task['id']}/pushNotificationConfigs"
    (shown,) = old_alice.http.get(f"/v1/{path}", headers=old_alice.headers).json()["configs"]
    assert shown["name"] == f"{path}/default"
    for given, name in (({"configId": "mine"}, "mine"), ({}, "default")):
        made = given | {"config": {"pushNotificationConfig": {"url": "https://example.com/hook"}}}
        reply = old_alice.http.post(f"/v1/{path}", json=made, headers=old_alice.headers).json()
        assert reply["name"] == f"{path}/{name}"


# --- who asks ---


@pytest.mark.requirement("AUTH-SERVER-002", "BIND-EQUIV-004")
@pytest.mark.parametrize("authorization", ["", "Bearer nonsense", "Basic YTpi"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/", {"jsonrpc": "2.0", "id": 1, "method": "ListTasks"}),
        ("GET", "/tasks", None),
        ("POST", "/message:send", {"message": data(ECHO)}),
        ("POST", "/message:stream", {"message": data(ECHO)}),
        ("GET", "/v1/tasks", None),
        ("GET", "/extendedAgentCard", None),
        ("GET", "/v1/card", None),
    ],
)
def test_whoever_does_not_say_who_they_are_gets_nothing(
    agent_server: Server, method: str, path: str, body: Any, authorization: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = agent_server.http.request(method, path, json=body, headers=headers)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert response.json()["error"]


@pytest.mark.requirement("BIND-EQUIV-004")
def test_the_card_declares_the_scheme_that_all_bindings_take(alice: Agent) -> None:
    card = alice.http.get("/.well-known/agent-card.json", headers={"A2A-Version": "1.0"}).json()
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
    assert card["securityRequirements"] == [{"schemes": {"bearer": {"list": []}}}]


def test_a_viewer_starts_nothing_over_http(agent_server: Server) -> None:
    viewer = agent_of(agent_server.http, "vera", "viewer")
    response = viewer.http.post("/message:send", json={"message": data(ECHO)}, headers=viewer.headers)
    assert (response.status_code, response.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
