"""The WebSocket with authentication: three ways to say who one is, what each user hears of, and who is turned out."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Barrier
from typing import Any

import httpx
import jwt
import pytest
from django.contrib.auth.hashers import make_password
from websockets.exceptions import ConnectionClosed

from a2a.live.stream_limits import UNKNOWN_PER_ADDRESS
from tests.a2a.sockets import socket
from tests.servers import MODULES, Server, new_database, running_server, until

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
ENV = {
    "AIPARTNERUPFLOW_JWT_SECRET": SECRET,
    "AIPARTNERUPFLOW_LIMITS_STREAMS_PER_USER": "3",
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.patient_sockets,tests.impatient",
}
NEARLY_EXPIRED = 5  # seconds, and the ten by which clocks may differ
SLOW = {"tasks": [{"name": "sleep_executor", "inputs": {"seconds": 600}}]}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as url, running_server(url, env=ENV) as server:
        yield server


@pytest.fixture(scope="module")
def default_limits_server() -> Iterator[Server]:
    """A server that looks as seldom as it does for everybody who holds a socket open."""
    env = {
        "AIPARTNERUPFLOW_JWT_SECRET": SECRET,
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.patient_sockets",
    }
    with new_database() as url, running_server(url, env=env) as server:
        yield server


def token(user_id: str, *, seconds: float = 600, **claims: Any) -> str:
    return jwt.encode({"sub": user_id, "exp": time.time() + seconds, **claims}, SECRET, "HS256")


def bearer(user_id: str, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user_id, **claims)}"}


def by_header(user_id: str) -> Json:
    return {"additional_headers": bearer(user_id)}


def by_subprotocol(user_id: str) -> Json:
    return {"subprotocols": ["bearer", token(user_id)]}


def run(server: Server, user_id: str) -> str:
    params = {"tasks": [{"name": "echo_executor"}], "wait": True}
    task_id: str = server.rpc("tasks.execute", params, **bearer(user_id))["task_id"]
    return task_id


@pytest.mark.parametrize("by", [by_header, by_subprotocol])
def test_a_token_comes_with_the_handshake(server: Server, by: Callable[[str], Json]) -> None:
    with socket(server.url, **by("alice")) as client:
        assert client.silent()
        assert client.connection.subprotocol == ("bearer" if by is by_subprotocol else None)
        root = run(server, "alice")
        assert {message["root_task_id"] for message in client.until("final")} == {root}


def test_a_token_comes_with_the_first_message(default_limits_server: Server) -> None:
    with socket(default_limits_server.url) as client:
        assert client.ask(action="auth", token=token("alice")) == {"type": "authenticated"}
        root = run(default_limits_server, "alice")
        assert {message["root_task_id"] for message in client.until("final")} == {root}


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"additional_headers": {"Authorization": "Bearer x.y.z"}}, None),
        ({"additional_headers": bearer("alice", seconds=-60)}, None),
        ({"subprotocols": ["bearer", "x"]}, None),
        ({}, {"action": "auth", "token": "x"}),
        ({}, {"action": "auth", "token": "apf_x"}),
        ({}, {"action": "ping"}),
        ({}, {"jsonrpc": "2.0", "method": "tasks.list", "id": 1}),
    ],
)
def test_nobody_else_gets_in(default_limits_server: Server, options: Json, first: Json | None) -> None:
    with socket(default_limits_server.url, **options) as client:
        if first:
            client.send(**first)
        assert client.closed() == 4401


@pytest.mark.parametrize("options", [{}, {"subprotocols": ["bearer"]}, {"path": f"/ws?token={token('alice')}"}])
def test_who_does_not_say_who_they_are_is_turned_out(server: Server, options: Json) -> None:
    with socket(server.url, **options) as client:
        assert client.closed() == 4408


def test_who_has_not_logged_in_sends_little_and_waits_with_few(default_limits_server: Server) -> None:
    url = default_limits_server.url
    for size in (20_000, 1_000_000):
        with socket(url) as client:
            with suppress(ConnectionClosed):
                client.connection.send(f'{{"action": "auth", "token": "{"x" * size}"}}')
            assert client.is_closed_as_too_big()
    with ExitStack() as held:
        clients = [held.enter_context(socket(url)) for _ in range(UNKNOWN_PER_ADDRESS)]
        with socket(url) as one_too_many:
            assert one_too_many.closed() == 1013
        assert clients[0].ask(action="auth", token=token("zoe")) == {"type": "authenticated"}
        with socket(url) as another:
            assert another.ask(action="auth", token=token("zoe")) == {"type": "authenticated"}
        clients[0].call("tasks.create", {"name": "n", "inputs": {"padding": "x" * 1_000_000}})
        assert clients[0].next()["result"]["name"] == "n"


def test_each_hears_of_their_own_tasks_and_an_admin_of_all(server: Server) -> None:
    admin: Json = {"additional_headers": bearer("root", roles=["admin"])}
    with (
        socket(server.url, **by_header("alice")) as alice,
        socket(server.url, **by_header("bob")) as bob,
        socket(server.url, **admin) as root,
    ):
        for client in (alice, bob, root):
            assert client.silent()
        theirs = [run(server, user_id) for user_id in ("alice", "bob")]
        for client, task_id in zip((alice, bob), theirs, strict=True):
            assert {message["root_task_id"] for message in client.until("final")} == {task_id}
            assert client.silent()
        seen = root.until("final") + root.until("final")
        assert {message["root_task_id"] for message in seen} == set(theirs)


def test_another_users_task_is_like_none(server: Server) -> None:
    task_id = run(server, "alice")
    with socket(server.url, **by_header("bob")) as bob:
        for action in ("subscribe", "unsubscribe"):
            answers = [bob.ask(action=action, task_id=each) for each in (task_id, "nowhere")]
            assert str(answers[0]).replace(task_id, "nowhere") == str(answers[1])
        bob.call("tasks.get", {"task_id": task_id})
        assert bob.next()["error"]["code"] == -32001


def test_a_role_that_is_too_low_is_told_so(server: Server) -> None:
    with socket(server.url, additional_headers=bearer("eve", roles=["viewer"])) as client:
        client.call("tasks.create", {"name": "x"})
        assert client.next()["error"]["code"] == -32004


def test_a_user_holds_only_so_many(server: Server) -> None:
    task_id = run(server, "carol")
    with (
        socket(server.url, **by_header("carol")) as one,
        socket(server.url, **by_subprotocol("carol")) as two,
        socket(server.url, **by_header("carol")) as three,
    ):
        for client in (one, two, three):
            client.send(action="ping")
            client.until("pong")
        with socket(server.url, **by_header("carol")) as fourth:
            assert fourth.closed() == 4429
        refused = server.http.get(f"/tasks/{task_id}/events", headers=bearer("carol"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, -32029)
        started = server.call("tasks.execute", {"task_id": task_id, "use_streaming": True}, **bearer("carol"))
        assert started["error"]["code"] == -32029
    assert len(server.query("SELECT id FROM tasks_run WHERE root_id = %s", task_id)) == 1


def test_however_many_come_at_once_no_more_get_in_and_the_others_are_told(server: Server) -> None:
    together = Barrier(12)

    def comes_in(_: int) -> int | None:
        with socket(server.url, **by_header("grace")) as client:
            try:
                return None if client.silent() else 0
            except ConnectionClosed as error:
                return error.rcvd.code if error.rcvd else 0
            finally:
                together.wait(60)

    with ThreadPoolExecutor(12) as clients:
        codes = list(clients.map(comes_in, range(12)))
    assert Counter(codes) == {None: 3, 4429: 9}


def test_a_token_that_expires_closes_the_socket_and_ends_the_stream(server: Server) -> None:
    task_id = server.rpc("tasks.execute", SLOW, **bearer("dora"))["task_id"]
    until(
        lambda: server.rpc("tasks.get", {"task_id": task_id}, **bearer("dora"))["status"] == "in_progress",
        seconds=60,
        what="the task at work",
    )
    short = bearer("dora", seconds=NEARLY_EXPIRED)
    with socket(server.url, additional_headers=short) as client:
        with server.http.stream("GET", f"/tasks/{task_id}/events", headers=short) as stream:
            lines = list(stream.iter_lines())
        assert any("task_start" in line for line in lines)
        assert not any("final" in line for line in lines)
        assert client.closed() == 4401
    server.rpc("tasks.cancel", {"task_id": task_id}, **bearer("dora"))


def login_of(server: Server, username: str) -> dict[str, str]:
    """A user with an account on the server, who has logged in."""
    server.query(
        "INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined) "
        "VALUES (%s, %s, %s, '', '', '', %s, %s, '2026-01-01 00:00:00+00:00')",
        *(username, make_password("pass"), False, False, True),
    )
    answer = server.http.post("/auth/login", json={"username": username, "password": "pass"}).json()
    return {"Authorization": f"Bearer {answer['access']}"}


CREATE: Json = {"jsonrpc": "2.0", "method": "tasks.create", "params": {"name": "x"}, "id": 1}
EXECUTE: Json = {"tasks": [{"name": "echo_executor"}], "use_streaming": True}


@pytest.mark.parametrize(
    ("username", "message"),
    [
        ("calls", CREATE),
        ("batches", [CREATE, {**CREATE, "id": 2}]),
        ("streams", {**CREATE, "method": "tasks.execute", "params": EXECUTE}),
        ("subscribes", {"action": "subscribe"}),
        ("unsubscribes", {"action": "unsubscribe"}),
    ],
)
def test_whoever_is_disabled_does_nothing_more_over_an_open_socket(
    default_limits_server: Server, username: str, message: Json | list[Json]
) -> None:
    with socket(default_limits_server.url, additional_headers=login_of(default_limits_server, username)) as client:
        assert client.silent()
        default_limits_server.query("UPDATE auth_user SET is_active = %s WHERE username = %s", False, username)
        with suppress(ConnectionClosed):
            for _ in range(3):
                client.connection.send(json.dumps(message))
        assert client.heard_until_closed() == ([], 4401)
    assert not default_limits_server.query("SELECT id FROM tasks_task WHERE user_id = %s", username)
    assert "Traceback" not in default_limits_server.log.read_text()


def test_a_role_that_was_taken_away_is_gone_over_an_open_socket_too(default_limits_server: Server) -> None:
    theirs = login_of(default_limits_server, "demoted")
    default_limits_server.query("UPDATE auth_user SET is_superuser = %s WHERE username = 'demoted'", True)
    with socket(default_limits_server.url, additional_headers=theirs) as client:
        assert client.silent()
        default_limits_server.query("UPDATE auth_user SET is_superuser = %s WHERE username = 'demoted'", False)
        client.call("tasks.list", {})
        assert client.heard_until_closed() == ([], 4401)


def test_whoever_a_foreign_token_names_does_nothing_more_once_disabled(default_limits_server: Server) -> None:
    login_of(default_limits_server, "foreign")
    with socket(default_limits_server.url, **by_header("foreign")) as client:
        client.call("tasks.count", {})
        assert "result" in client.next()
        default_limits_server.query("UPDATE auth_user SET is_active = %s WHERE username = 'foreign'", False)
        client.call("tasks.count", {})
        assert client.heard_until_closed() == ([], 4401)


@pytest.mark.parametrize(
    ("username", "change", "value"),
    [("disabled", "is_active", False), ("renewed", "password", "not the hash of the password")],
    ids=["disabled", "renewed"],
)
def test_a_user_who_is_disabled_or_changes_their_password_is_turned_out(
    server: Server, username: str, change: str, value: Any
) -> None:
    theirs = login_of(server, username)
    with socket(server.url, additional_headers=theirs) as client:
        assert client.silent()
        server.query(f"UPDATE auth_user SET {change} = %s WHERE username = %s", value, username)
        assert client.closed() == 4401
    with socket(server.url, additional_headers=theirs) as client:
        assert client.closed() == 4401


def test_a_token_in_the_log_would_be_a_leak(server: Server) -> None:
    secret = token("mallory")
    with socket(server.url, subprotocols=["bearer", secret]) as client:
        assert client.silent()
    assert secret not in server.log.read_text()


def test_the_streams_of_a_process_are_given_back(server: Server) -> None:
    for _ in range(5):
        with socket(server.url, **by_header("frank")) as client:
            assert client.silent()
    task_id = run(server, "frank")
    for _ in range(5):
        assert httpx.get(f"{server.url}/tasks/{task_id}/events", headers=bearer("frank"), timeout=60).status_code == 200
