from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from django.conf import LazySettings
from django.test import AsyncClient

from a2a.core.process import software_version
from tests.a2a.conftest import Rpc, client_of, serving
from tests.sections import replace
from tests.servers import new_database, query

GET_NOTHING = {"jsonrpc": "2.0", "method": "tasks.get", "params": {"task_id": "nothing"}, "id": 1}
JSON = {"Content-Type": "application/json"}
ENDED: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


@pytest.mark.parametrize("path", ["/", "/tasks", "/tasks/"])
def test_json_rpc_is_answered_with_and_without_a_slash(http: httpx.Client, path: str) -> None:
    response = http.post(path, json=GET_NOTHING)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json()["error"]["code"] == -32001


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, -32700),
        (b"", JSON, 400, -32700),
        (b'{"a": NaN}', JSON, 400, -32700),
        (b'{"a": 1, "a": 2}', JSON, 400, -32700),
        (b'{"a": "\\u0000"}', JSON, 400, -32700),
        (b"[" * 65 + b"]" * 65, JSON, 400, -32700),
        (b"\xff", JSON, 400, -32700),
        (b"{}", {"Content-Type": "text/plain"}, 415, -32600),
        (b"{}", {}, 415, -32600),
        (b"{}", JSON | {"Content-Encoding": "gzip"}, 415, -32600),
        (b" " * (10 * 2**20 + 1), JSON, 413, -32600),
        (b"{}", JSON, 200, -32600),
        (b"[]", JSON, 200, -32600),
    ],
)
@pytest.mark.parametrize("path", ["/", "/tasks"])
def test_what_is_no_request_is_refused_in_json(
    http: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, code: int
) -> None:
    response = http.post(path, content=body, headers=headers)
    assert response.status_code == status
    assert response.json() | {"error": None} == {"jsonrpc": "2.0", "id": None, "error": None}
    # A2A has a code of its own for a content type.
    assert response.json()["error"]["code"] == (-32005 if path == "/" and status == 415 else code)


def test_a_body_that_does_not_say_its_length_is_limited_too(http: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(11):
            yield b" " * 2**20

    response = http.post("/tasks", content=body(), headers=JSON)
    assert response.status_code == 413
    assert "limits.body_bytes" in response.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/a2a+json"])
def test_json_has_more_than_one_content_type(http: httpx.Client, content_type: str) -> None:
    response = http.post("/", content=orjson.dumps(GET_NOTHING), headers={"Content-Type": content_type})
    assert response.json()["error"]["code"] == -32001


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tasks", "GET, HEAD, POST"),
        ("PUT", "/", "GET, HEAD, POST"),
        ("GET", "/system", "POST"),
        ("POST", "/tasks/a/events", "GET"),
    ],
)
def test_another_http_method_is_refused_in_json(http: httpx.Client, method: str, path: str, allowed: str) -> None:
    response = http.request(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)
    assert response.json()["error"]["code"] == -32600


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("text/*", 200),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ("", 200),
        ("application/json", 405),
        ("text/event-stream", 405),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_takes_html_reads_the_dashboard(http: httpx.Client, method: str, accept: str, status: int) -> None:
    request = http.build_request(method, "/", headers={"Accept": accept})
    if not accept:
        del request.headers["Accept"]
    response = http.send(request)
    assert response.status_code == status
    if status == 200:
        assert response.headers["Content-Type"].startswith("text/html")
    else:
        assert response.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(("method", "close"), [("tasks.gett", "tasks.get"), ("task.execute", "tasks.execute")])
def test_an_unknown_method_names_the_close_ones(refusal: Rpc, method: str, close: str) -> None:
    error = refusal(method, {})
    assert error["code"] == -32601
    assert close in error["data"]["close_matches"]
    assert close in error["message"]


@pytest.mark.parametrize("method", ["tasks.gett", "SendMesage", "message/sent"])
def test_at_the_root_methods_of_a2a_come_close_too(refusal: Rpc, method: str) -> None:
    error = refusal(method, {}, path="/")
    assert (error["code"], error.keys()) == (-32601, {"code", "message"})
    assert "Did you mean" in error["message"]


def test_a_batch_is_answered_in_its_order_without_the_notifications(http: httpx.Client) -> None:
    batch = [
        GET_NOTHING | {"id": "first"},
        {"jsonrpc": "2.0", "method": "tasks.get", "params": {"task_id": "nothing"}},
        7,
        {"jsonrpc": "2.0", "method": "tasks.list", "params": {"user_id": "nobody"}, "id": 2},
    ]
    first, second, third = http.post("/tasks", json=batch).json()
    assert (first["id"], first["error"]["code"]) == ("first", -32001)
    assert (second["id"], second["error"]["code"]) == (None, -32600)
    assert (third["id"], third["result"]) == (2, [])


def test_notifications_of_a_batch_are_carried_out_and_not_answered(http: httpx.Client, rpc: Rpc) -> None:
    notification = {"jsonrpc": "2.0", "method": "tasks.create", "params": {"id": "notified", "name": "quiet"}}
    response = http.post("/tasks", json=[notification])
    assert (response.status_code, response.content) == (204, b"")
    assert rpc("tasks.get", {"task_id": "notified"})["name"] == "quiet"


@pytest.mark.parametrize(
    ("path", "method"),
    [("/tasks", "tasks.count"), ("/system", "config.llm_key.get"), ("/", "tasks.count"), ("/", "ListTasks")],
)
def test_a_single_request_without_an_id_is_answered_with_null(http: httpx.Client, path: str, method: str) -> None:
    answered = http.post(path, json={"jsonrpc": "2.0", "method": method}, headers={"A2A-Version": "1.0"}).json()
    assert (answered["id"], list(answered)) == (None, ["jsonrpc", "id", "result"])
    refused = http.post(path, json={"jsonrpc": "2.0", "method": "no.such"}).json()
    assert (refused["id"], refused["error"]["code"]) == (None, -32601)


def test_the_stream_of_a_request_without_an_id_is_sent_too(http: httpx.Client) -> None:
    params = {"tasks": [{"name": "echo_executor"}], "use_streaming": True}
    with http.stream(
        "POST", "/tasks", json={"jsonrpc": "2.0", "method": "tasks.execute", "params": params}
    ) as response:
        first = orjson.loads(next(response.iter_lines()).removeprefix("data: "))
    assert (first["id"], first["result"]["status"]) == (None, "started")


def test_a_batch_holds_at_most_a_hundred(http: httpx.Client) -> None:
    assert len(http.post("/tasks", json=[GET_NOTHING] * 100).json()) == 100
    error = http.post("/tasks", json=[GET_NOTHING] * 101).json()["error"]
    assert error["code"] == -32600
    assert "101" in error["message"]


def test_a_stream_in_a_batch_is_refused(http: httpx.Client) -> None:
    params = {"tasks": [{"name": "a"}], "use_streaming": True}
    request = {"jsonrpc": "2.0", "method": "tasks.execute", "params": params, "id": 1}
    (reply,) = http.post("/tasks", json=[request]).json()
    assert reply["error"]["code"] == -32602
    assert reply["error"]["data"][0]["field"] == "use_streaming"


@pytest.mark.parametrize("call_id", ["1", 1, -1, 1.5, "", None, 2**53 + 1])
def test_the_id_comes_back_as_it_was_sent(http: httpx.Client, call_id: Any) -> None:
    reply = http.post("/tasks", json=GET_NOTHING | {"id": call_id}).json()
    assert reply["id"] == call_id
    assert type(reply["id"]) is type(call_id)


def test_health_tells_the_version(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok", "version": software_version()}


def test_ready_names_its_checks(http: httpx.Client, rpc: Rpc) -> None:
    rpc("tasks.execute", {"tasks": [{"name": "a"}], "wait": True})  # then the worker is up
    for path, checks in (("/ready", set()), ("/ready?workers=1", {"worker", "queue"})):
        response = http.get(path)
        assert response.status_code == 200, response.text
        assert response.json()["ready"] is True
        assert set(response.json()["checks"]) == {"database", "migrations", *checks}


@pytest.mark.parametrize("path", ["/", "/tasks"])
async def test_who_does_not_say_who_they_are_gets_401(
    async_client: AsyncClient, settings: LazySettings, path: str
) -> None:
    auth = replace(settings.APFLOW.auth, enabled=True, jwt_secret="correct-horse-battery-staple-0123456789")
    settings.APFLOW = replace(settings.APFLOW, auth=auth)
    response = await async_client.post(path, GET_NOTHING, content_type="application/json")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    reply = response.json()
    assert (reply["id"], reply["error"]["code"]) == (GET_NOTHING["id"], -32004)
    assert (await async_client.get("/tasks/a/events")).status_code == 401


@pytest.mark.parametrize(
    ("body", "call_id"),
    [
        ('{"jsonrpc": "2.0", "id": "seven", "method": "GetTask", "params": {"id": "a"}}', "seven"),
        ('{"jsonrpc": "2.0", "id": 7, "method": "tasks/get", "params": {"id": "a"}}', 7),
        ('{"jsonrpc": "2.0", "id": 7, "method": 7}', 7),
        ('[{"jsonrpc": "2.0", "id": 7, "method": "GetTask"}]', None),
        ('{"jsonrpc": ', None),
        (f'{{"jsonrpc": "2.0", "id": 7, "method": "GetTask", "params": {{"id": "{"a" * 65_536}"}}}}', None),
    ],
)
async def test_a_client_of_a2a_that_has_not_logged_in_gets_a_code_of_its_own(
    async_client: AsyncClient, settings: LazySettings, body: str, call_id: object
) -> None:
    auth = replace(settings.APFLOW.auth, enabled=True, jwt_secret="correct-horse-battery-staple-0123456789")
    settings.APFLOW = replace(settings.APFLOW, auth=auth)
    response = await async_client.post("/", body, content_type="application/json")
    reply = response.json()
    assert (response.status_code, reply["id"], reply["error"]["code"]) == (401, call_id, -32031)
    assert "Authorization: Bearer" in reply["error"]["message"]


def test_without_its_database_the_server_lives_and_says_when_to_come_back(
    tmp_path: Path, engine_urls: Mapping[str, str]
) -> None:
    with new_database(engine_urls["postgres"]) as url:
        settings = {"AIPARTNERUPFLOW_DATABASE_URL": url, "AIPARTNERUPFLOW_WORKER_EMBEDDED": "false"}
        with serving(tmp_path, **settings) as base_url, client_of(base_url) as client:
            assert client.get("/ready").json()["checks"]["database"]["ok"] is True
            name = urlsplit(url).path.removeprefix("/")
            query(engine_urls["postgres"], f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            query(engine_urls["postgres"], ENDED, name)
            assert client.get("/health").status_code == 200
            ready = client.get("/ready")
            assert (ready.status_code, ready.json()["checks"]["database"]["ok"]) == (503, False)
            for response in (client.post("/tasks", json=GET_NOTHING), client.get("/tasks/a/events")):
                assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
                assert response.json()["error"]["code"] == -32603
                assert response.json()["error"]["data"].keys() == {"error_id", "retry_after_seconds"}
                assert name not in response.text
            rest = client.get("/api/tasks/")
            assert (rest.status_code, rest.headers["Retry-After"]) == (503, "2")
            assert rest.json()["error"]["code"] == "database_unavailable"
            assert name not in rest.text
