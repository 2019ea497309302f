"""`events.send` and `POST /hooks/{token}` over the wire, by programs that know nothing of each other."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import httpx
import pytest

from tests.servers import Json, Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly

FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
JSON: Final = {"Content-Type": "application/json"}
NUMBERS: Final = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"AIPARTNERUPFLOW_LOG_REQUESTS": "true", "AIPARTNERUPFLOW_LOG_LEVEL": "debug"}
    with new_database() as database, running_server(database, env=settings) as server:
        yield server


def waiting(server: Server, **inputs: Any) -> tuple[str, Json]:
    """A task that waits for an event, and what it waits for."""
    task_id = f"hooked-{next(NUMBERS)}"
    task = {"id": task_id, "name": "event_executor", "inputs": {"event": task_id, **inputs}}
    server.rpc("tasks.execute", {"tasks": [task]})

    def wait() -> Json | None:
        found: Json | None = server.rpc("tasks.detail", {"task_id": task_id})["wait"]
        return found

    until(wait, seconds=60, what="the wait")
    found = wait()
    assert found is not None
    return task_id, found


def hooked(server: Server) -> tuple[str, str]:
    task_id, wait = waiting(server)
    return task_id, wait["hook_url"].removeprefix(server.url)


def payload_of(server: Server, task_id: str) -> Any:
    assert server.finished(task_id)[-1]["status"] == "completed"
    return server.rpc("tasks.get", {"task_id": task_id})["result"]["payload"]


@pytest.mark.parametrize(
    ("body", "headers", "payload"),
    [
        (b'{"a": [1, null]}', JSON, {"a": [1, None]}),
        (b"7", {"Content-Type": "application/cloudevents+json"}, 7),
        (b"", {}, None),
        (b"", JSON, None),
        (b"a=1&b=x+y%26&b=&c=%C3%A9", FORM, {"a": "1", "b": ["x y&", ""], "c": "é"}),
        ("Grüße".encode(), TEXT, "Grüße"),
    ],
)
def test_the_body_is_the_payload(server: Server, body: bytes, headers: dict[str, str], payload: Any) -> None:
    task_id, url = hooked(server)
    response = server.http.post(url, content=body, headers=headers)
    assert (response.status_code, response.json()) == (200, {"success": True})
    assert payload_of(server, task_id) == payload


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b'{"a": "\\u0000"}', JSON, 400),
        (b"[" * 100 + b"]" * 100, JSON, 400),
        (b"a=%00", FORM, 400),
        (b"\0", TEXT, 400),
        (b"\xff", TEXT, 400),
        (b"a=%FF", FORM, 400),
        (b"x", {"Content-Type": "application/octet-stream"}, 415),
        (b"x", {}, 415),
        (b"x", JSON | {"Content-Encoding": "gzip"}, 415),
        (b"x" * (64 * 1024 + 1), TEXT, 413),
        (b"x" * (11 * 1024 * 1024), TEXT, 413),
        (b"&".join([b"a"] * 30_000), FORM, 400),
    ],
)
def test_a_body_that_is_refused_leaves_the_wait_open(
    server: Server, body: bytes, headers: dict[str, str], status: int
) -> None:
    task_id, url = hooked(server)
    assert server.http.post(url, content=body, headers=headers).status_code == status
    is_open = server.rpc("tasks.detail", {"task_id": task_id})["wait"] is not None
    assert is_open


def test_what_is_unknown_used_or_over_looks_the_same(server: Server) -> None:
    task_id, url = hooked(server)
    assert server.http.post(url).status_code == 200
    cancelled_id, cancelled_url = hooked(server)
    server.rpc("tasks.cancel", {"task_id": cancelled_id})
    server.finished(cancelled_id)
    urls = [
        url,
        cancelled_url,
        f"{url}x",
        "/hooks/nonsense",
        "/hooks/%00",
        "/hooks/%FF",
        f"/hooks/{task_id}",
        "/hooks/..%2f",
    ]
    for body in (b"", b"{", b"x" * 70_000):
        found = [server.http.post(each, content=body, headers=JSON) for each in urls]
        assert {(each.status_code, each.content) for each in found[:4]} == {(404, found[0].content)}, found
        assert {each.status_code for each in found} == {404}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_a_post_ends_a_wait(server: Server, method: str) -> None:
    task_id, url = hooked(server)
    assert server.http.request(method, url).status_code == 405
    assert server.rpc("tasks.detail", {"task_id": task_id})["wait"] is not None


def test_a_token_is_in_no_log_no_event_and_no_row(server: Server) -> None:
    task_id, url = hooked(server)
    token = url.removeprefix("/hooks/")
    server.http.get(url)
    server.http.post(url, content=b"{", headers=JSON)
    assert server.http.post(url).status_code == 200
    assert server.http.post(url).status_code == 404
    events = server.finished(task_id)
    signature = token.rpartition(".")[2]
    assert "/hooks/<str:token>" in server.log.read_text()
    assert signature not in server.log.read_text()
    assert signature not in repr(events)
    for table in ("tasks_question", "tasks_sentevent", "tasks_taskevent", "tasks_task"):
        assert signature not in repr(server.query(f"SELECT * FROM {table}"))


def test_a_wait_is_shown_with_what_ends_it(server: Server) -> None:
    task_id, wait = waiting(server, match={"/a": 1}, timeout_seconds=3600, on_timeout="complete")
    assert wait["hook_url"].startswith(f"{server.url}/hooks/")
    assert (wait["kind"], wait["event"], wait["match"], wait["on_timeout"]) == ("event", task_id, {"/a": 1}, "complete")
    again = server.http.get(f"/api/tasks/{task_id}/detail").json()["wait"]
    assert again == wait
    assert server.http.post("/api/events", json={"event": task_id, "payload": {"a": 2}}).json()["woken"] == 0
    assert server.rpc("events.send", {"event": task_id, "payload": {"a": 1}}, path="/tasks")["woken"] == 1
    assert payload_of(server, task_id) == {"a": 1}


def test_a_wait_for_a_time_has_no_address(server: Server) -> None:
    server.rpc("tasks.execute", {"tasks": [{"id": "timed", "name": "wait_executor", "inputs": {"seconds": 3600}}]})
    until(lambda: server.rpc("tasks.detail", {"task_id": "timed"})["wait"], seconds=60, what="the wait")
    wait = server.rpc("tasks.detail", {"task_id": "timed"})["wait"]
    assert (wait["kind"], wait["hook_url"], wait["event"], wait["match"]) == ("time", None, None, None)
    (answer,) = server.rpc("tasks.cancel", {"task_id": "timed"})
    assert answer["status"] == "cancelled"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "event"),
        ({"event": ""}, "event"),
        ({"event": "e" * 256}, "event"),
        ({"event": 7}, "event"),
        ({"event": "e", "id": ""}, "id"),
        ({"event": "e", "payload": "x" * 65_535}, "payload"),
        ({"event": "e", "user_id": "bob"}, "user_id"),
    ],
)
def test_what_is_no_event_is_refused_by_name(server: Server, params: Json, field: str) -> None:
    error = server.call("events.send", params)["error"]
    assert (error["code"], error["data"][0]["field"]) == (-32602, field)
    response: httpx.Response = server.http.post("/api/events/", json=params)
    assert response.status_code == 400
    assert server.call("events.send", {"event": "e", "payload": "x" * 65_534})["result"]["woken"] == 0
