"""The header Idempotency-Key, over HTTP: what it promises for a retry that a client sends because it got no answer."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from tests.a2a.conftest import Rpc, frames_of

pytestmark = pytest.mark.both_engines_nightly

TASKS = {"tasks": [{"name": "echo_executor", "inputs": {"x": 1}}]}
SLOW = {"tasks": [{"name": "sleep_executor", "inputs": {"seconds": 1, "steps": 5}}]}
KEYS = count()


@pytest.fixture
def key() -> str:
    return f"key {next(KEYS)}"


def send(http: httpx.Client, method: str, params: Any, key: str, *, path: str = "/tasks", call_id: int = 1) -> Any:
    request = {"jsonrpc": "2.0", "method": method, "params": params, "id": call_id}
    reply = http.post(path, json=request, headers={"Idempotency-Key": key}).json()
    assert reply["id"] == call_id
    return reply


@pytest.mark.parametrize("path", ["/", "/tasks"])
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tasks.create", TASKS),
        ("tasks.create", TASKS | {"execute": True}),
        ("tasks.execute", TASKS),
        ("execute_task_tree", TASKS),
        ("tasks.execute", TASKS | {"wait": True}),
    ],
)
def test_the_same_request_gets_the_same_reply(
    http: httpx.Client, rpc: Rpc, key: str, method: str, params: Any, path: str
) -> None:
    first = send(http, method, params, key, path=path)
    native = first["result"]["metadata"]["task"] if path == "/" else first["result"]
    root_id = native.get("task_id") or native["id"]
    if "execute" in method or "execute" in params:
        rpc("tasks.execute", {"task_id": root_id, "wait": True})  # it is over by now, and the reply is the same
    again = send(http, method, params, key, path=path, call_id=2)
    assert again["result"] == first["result"]


def test_the_order_of_the_names_does_not_matter(http: httpx.Client, key: str) -> None:
    first = send(http, "tasks.create", {"tasks": [{"name": "a", "priority": 1}], "execute": False}, key)
    again = send(http, "tasks.create", {"execute": False, "tasks": [{"priority": 1, "name": "a"}]}, key)
    assert again == first


@pytest.mark.both_engines
@pytest.mark.parametrize("params", [TASKS, TASKS | {"wait": True}])
def test_requests_at_the_same_time_are_one(http: httpx.Client, rpc: Rpc, key: str, params: Any) -> None:
    params = {"tasks": [params["tasks"][0] | {"user_id": key}]} | {k: v for k, v in params.items() if k != "tasks"}
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: send(http, "tasks.execute", params, key), range(8)))
    assert all(reply == replies[0] for reply in replies)
    assert rpc("tasks.count", {"user_id": key})["total"] == 1


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("tasks.create", {"tasks": [{"name": "other"}]}, "/tasks"),
        ("tasks.execute", TASKS, "/tasks"),
        ("tasks.create", TASKS | {"execute": True}, "/tasks"),
        ("tasks.create", TASKS, "/"),
    ],
)
def test_another_request_under_the_same_key_is_refused(
    http: httpx.Client, key: str, method: str, params: Any, path: str
) -> None:
    send(http, "tasks.create", TASKS, key)
    error = send(http, method, params, key, path=path)["error"]
    assert (error["code"], error["data"][0]["field"]) == (-32602, "Idempotency-Key")


@pytest.mark.both_engines
def test_a_request_that_was_refused_is_tried_anew(http: httpx.Client, key: str) -> None:
    assert send(http, "tasks.create", {"tasks": []}, key)["error"]["code"] == -32012
    assert send(http, "tasks.create", {"tasks": []}, key)["error"]["code"] == -32012
    assert "result" in send(http, "tasks.create", TASKS, key)


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(http: httpx.Client, bad: str) -> None:
    error = send(http, "tasks.create", TASKS, bad)["error"]
    assert (error["code"], error["data"][0]["field"]) == (-32602, "Idempotency-Key")


def test_a_batch_has_no_key(http: httpx.Client, key: str) -> None:
    request = {"jsonrpc": "2.0", "method": "tasks.create", "params": TASKS, "id": 1}
    look = {"jsonrpc": "2.0", "method": "tasks.count", "id": 2}
    first, second = http.post("/tasks", json=[request, look], headers={"Idempotency-Key": key}).json()
    assert first["error"]["data"][0]["field"] == "Idempotency-Key"
    assert "result" in second


def test_methods_that_only_read_ignore_it(http: httpx.Client, key: str) -> None:
    assert "result" in send(http, "tasks.count", {}, key)
    assert "result" in send(http, "tasks.list", {}, key)


@pytest.mark.parametrize("path", ["/", "/tasks"])
def test_a_repeated_stream_follows_the_same_run_from_where_it_broke_off(
    http: httpx.Client, key: str, path: str
) -> None:
    request = {"jsonrpc": "2.0", "method": "tasks.execute", "params": SLOW | {"use_streaming": True}, "id": 1}
    headers = {"Idempotency-Key": key}
    with http.stream("POST", path, json=request, headers=headers) as response:
        frames = frames_of(response.iter_lines())
        (_, reply), *seen = [next(frames) for _ in range(3)]
    with http.stream("POST", path, json=request, headers=headers | {"Last-Event-ID": "2"}) as response:
        (_, again), *rest = list(frames_of(response.iter_lines()))
    assert again == reply
    ids = [event_id for event_id, _ in [*seen, *rest]]
    assert ids == [str(number) for number in range(1, len(ids) + 1)]
    with http.stream("POST", path, json=request, headers=headers) as response:
        (_, third), *everything = list(frames_of(response.iter_lines()))
    assert (third, everything) == (reply, [*seen, *rest])
