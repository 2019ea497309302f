"""Pages of other origins: which may call the server, and that none of them reaches a page or a form."""

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from apflow_site.config import ConfigError, load
from apflow_site.origins import THIS_MACHINE, origin_patterns
from tests.servers import Server, new_database, running_server

APP = "https://app.example.com"
LOCAL_APP = "http://localhost:3000"
COUNT = {"jsonrpc": "2.0", "id": 1, "method": "tasks.count"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id, x-llm-api-key",
}


@pytest.fixture(scope="module")
def app_server() -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_JWT_SECRET": "of-the-origins-9vQ2xLr7Wm4Zt6Kb8Nc3Hd",
        "AIPARTNERUPFLOW_SERVER_ALLOWED_ORIGINS": APP,
    }
    with new_database() as url, running_server(url, env=settings) as server:
        yield server


def asked(server: Server, origin: str, *, method: str = "POST", path: str = "/tasks") -> httpx.Response:
    return server.http.request(method, path, json=COUNT, headers={"Origin": origin})


def socket_from(origin: str, server: Server) -> ClientConnection:
    return connect(f"{server.url.replace('http', 'ws')}/ws", origin=Origin(origin), open_timeout=60)


@pytest.mark.parametrize("origin", [LOCAL_APP, "http://127.0.0.1:5173", "http://localhost"])
@pytest.mark.parametrize("path", ["/tasks", "/", "/system", "/api/tasks/"])
def test_pages_of_this_machine_may_call_an_open_server_on_it(open_server: Server, origin: str, path: str) -> None:
    preflight = open_server.http.options(path, headers={"Origin": origin, **PREFLIGHT})
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    assert set(PREFLIGHT["Access-Control-Request-Headers"].split(", ")) <= set(
        preflight.headers["Access-Control-Allow-Headers"].split(", ")
    )
    answer = asked(open_server, origin, path=path)
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.status_code != 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost.evil.example", "https://localhost:3000x", "null", "http://10.0.0.1:3000"],
)
def test_others_are_refused_and_may_read_nothing(open_server: Server, origin: str) -> None:
    refused = asked(open_server, origin)
    assert refused.status_code == 403
    assert "server.allowed_origins" in refused.text
    for response in (
        refused,
        open_server.http.options("/tasks", headers={"Origin": origin, **PREFLIGHT}),
        asked(open_server, origin, method="GET", path="/api/tasks/"),
    ):
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/ui/tasks/new", "/login/", "/admin/login/", "/answer/x"])
def test_an_allowed_origin_reaches_no_page(app_server: Server, path: str) -> None:
    response = app_server.http.post(path, data={}, headers={"Origin": APP})
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers


def test_only_the_listed_origins_count_where_users_log_in(app_server: Server) -> None:
    assert asked(app_server, LOCAL_APP).status_code == 403
    allowed = asked(app_server, APP)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (401, APP)


@pytest.mark.parametrize("path", ["/api/nowhere", "/nowhere"])
def test_an_allowed_origin_reads_that_an_address_is_unknown(app_server: Server, path: str) -> None:
    unknown = asked(app_server, APP, method="GET", path=path)
    assert (unknown.status_code, unknown.headers.get("Access-Control-Allow-Origin")) == (404, APP)


def test_websockets_have_the_same_list(open_server: Server, app_server: Server) -> None:
    with socket_from(LOCAL_APP, open_server) as socket:
        socket.send(json.dumps(COUNT))
        while "result" not in (answer := json.loads(socket.recv())):
            pass  # an event of another test's run
        assert answer["result"]["total"] >= 0
    with socket_from(LOCAL_APP, app_server) as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv()
        assert (socket.close_code, socket.close_reason) == (
            4403,
            f"Origin {LOCAL_APP!r} is not in server.allowed_origins",
        )


def patterns(**settings: str) -> list[str]:
    return origin_patterns(load({f"AIPARTNERUPFLOW_{name}": value for name, value in settings.items()}))


SECRET = {"JWT_SECRET": "of-the-origins-9vQ2xLr7Wm4Zt6Kb8Nc3Hd"}


def test_this_machine_is_allowed_only_while_no_other_machine_reaches_an_open_server() -> None:
    assert len(patterns()) == len(THIS_MACHINE)
    assert (
        patterns(HOST="0.0.0.0") == patterns(**SECRET) == patterns(SERVER_PUBLIC_URL="https://flow.example.com") == []
    )
    assert patterns(SERVER_ALLOWED_ORIGINS="https://a.example,https://b.example:8443") != []


@pytest.mark.parametrize(
    "value", ["app.example.com", "https://app.example.com/", "ftp://a.example", "https://a.example:x"]
)
def test_what_is_no_origin_stops_the_start(value: str) -> None:
    with pytest.raises(ConfigError, match=r"server.allowed_origins .* is not allowed. Give a list of origins"):
        patterns(SERVER_ALLOWED_ORIGINS=value)


def test_every_origin_only_without_authentication() -> None:
    assert patterns(SERVER_ALLOWED_ORIGINS="*")
    with pytest.raises(ConfigError, match=r"'\*' lets every web page call the server"):
        patterns(SERVER_ALLOWED_ORIGINS="*", **SECRET)
