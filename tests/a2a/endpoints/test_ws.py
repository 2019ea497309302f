"""The WebSocket while authentication is off: every event of every task, subscriptions, and JSON-RPC on the same connection."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.a2a.sockets import Client, socket
from tests.servers import MODULES, Server, new_database, running_server, until

Json = dict[str, Any]
pytestmark = pytest.mark.both_engines_nightly
LIMITS = {
    "AIPARTNERUPFLOW_LIMITS_BODY_BYTES": "20000",
    "AIPARTNERUPFLOW_LIMITS_STREAMS": "20",
    "AIPARTNERUPFLOW_LIMITS_MESSAGES_PER_SECOND": "10",
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.patient_sockets",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as url, running_server(url, env=LIMITS) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """One that hears nothing of earlier tests: their trees have ended."""
    until(lambda: server.rpc("tasks.running.count", {})["count"] == 0, seconds=60, what="the end of earlier trees")
    with socket(server.url) as client:
        yield client


def tree(*, steps: int = 3, seconds: float = 0.1) -> Json:
    step = {"id": "s", "name": "sleep_executor", "parent_id": "r", "inputs": {"seconds": seconds, "steps": steps}}
    return {"tasks": [{"id": "r", "name": "r"}, step]}


def ran(server: Server) -> str:
    """The root of a tree that has run; it has events 1 to 7 with 3 steps."""
    task_id: str = server.rpc("tasks.execute", tree() | {"wait": True})["task_id"]
    return task_id


def numbers(events: list[Json]) -> list[int]:
    return [event["data"]["seq"] for event in events]


def test_without_a_word_every_update_comes(server: Server, client: Client) -> None:
    assert client.silent()
    roots = {ran(server), ran(server)}
    messages = client.until("final") + client.until("final")
    assert {message["root_task_id"] for message in messages} == roots
    for message in messages:
        head = {name: message["data"][name] for name in ("type", "task_id", "root_task_id", "status", "progress")}
        assert message == head | {"data": message["data"]}
    for root in roots:
        of_root = [message for message in messages if message["root_task_id"] == root]
        assert numbers(of_root) == list(range(1, len(of_root) + 1))
        assert [message["data"] for message in of_root] == server.finished(root)[:-1]


@pytest.mark.both_engines
def test_who_subscribes_gets_what_happened_and_then_only_that_tree(server: Server, client: Client) -> None:
    root = ran(server)
    assert len(numbers(client.until("final"))) == 7
    answer = client.ask(action="subscribe", task_id=root, after=4)
    assert answer["type"] == "subscribed", answer
    assert (answer["root_task_id"], answer["status"], answer["last_seq"]) == (root, "completed", 7)
    assert answer["pruned"] is False
    assert numbers(client.until("final")) == [5, 6, 7]
    ran(server)
    assert client.silent()
    server.rpc("tasks.execute", {"task_id": root, "wait": True})
    assert {message["root_task_id"] for message in client.until("final")} == {root}


def test_a_new_client_that_subscribes_without_a_number_gets_all_of_the_run(server: Server, client: Client) -> None:
    root = ran(server)
    with socket(server.url) as late:
        child = server.rpc("tasks.tree", {"task_id": root})["children"][0]["id"]
        assert late.ask(action="subscribe", task_id=child)["type"] == "subscribed"
        assert numbers(late.until("final")) == list(range(1, 8))
    client.until("final")
    assert client.ask(action="subscribe", task_id=root)["type"] == "subscribed"
    assert client.silent()  # it has had everything


@pytest.mark.both_engines
def test_what_is_not_kept_any_more_is_said_and_never_left_out(server: Server) -> None:
    root = ran(server)
    server.query(
        "DELETE FROM tasks_taskevent WHERE seq < 5 AND run_id = (SELECT id FROM tasks_run WHERE root_id = %s)", root
    )
    refused = server.http.get(f"/tasks/{root}/events")
    assert (refused.status_code, refused.json()["error"]["message"].partition("(")[2][:16]) == (410, "events.keep_days")
    assert server.http.get(f"/api/tasks/{root}/events").json()["error"]["code"] == "events_pruned"
    with server.events(root, after=4) as events:
        assert [event["seq"] for event in events] == [5, 6, 7, 8]
    with socket(server.url) as late:
        answer = late.ask(action="subscribe", task_id=root, after=3)
        assert (answer["type"], answer["error"]["code"]) == ("error", -32001)
        answer = late.ask(action="subscribe", task_id=root)
        assert (answer["type"], answer["last_seq"], answer["pruned"]) == ("subscribed", 7, True)
        assert late.silent()
        server.rpc("tasks.execute", {"task_id": root, "wait": True})
        assert numbers(late.until("final"))[0] == 1


@pytest.mark.both_engines
def test_subscribing_to_a_running_tree_misses_and_doubles_nothing(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    inputs = {"gate": str(gate), "seconds": 0.6, "steps": 60}
    step = {"id": "s", "name": "scripted_executor", "parent_id": "r", "inputs": inputs}
    root = server.rpc("tasks.execute", {"tasks": [{"id": "r", "name": "r"}, step]})["task_id"]
    with socket(server.url) as client:
        client.send(action="ping")
        client.until("pong")
        gate.touch()
        client.next()
        client.send(action="subscribe", task_id=root, after=0)
        messages = client.until("subscribed")
        assert numbers(client.until("final")) == list(range(1, 66))
        assert numbers(messages[:-1]) == sorted(numbers(messages[:-1]))


def test_the_url_names_what_to_resume_and_nothing_else_is_sent_before(server: Server) -> None:
    root, other = ran(server), server.rpc("tasks.execute", tree(steps=60, seconds=0.6))["task_id"]
    first = server.finished(root)[0]["run_id"]
    server.rpc("tasks.execute", {"task_id": root, "wait": True})  # everything is done: it has only `final`
    second = server.finished(root)[0]["run_id"]
    with socket(server.url, path=f"/ws?run_id={first}&after=4") as client:
        answer, *resumed = [*client.until("final"), *client.until("final")]
        assert (answer["type"], answer["run_id"], answer["last_seq"]) == ("subscribed", first, 7)
        assert [(event["data"]["run_id"], event["data"]["seq"]) for event in resumed] == [
            *((first, seq) for seq in range(5, 8)),
            (second, 1),
        ]
        assert client.silent()
    with socket(server.url, path=f"/ws?task_id={root}&after=0") as client:
        assert client.next()["run_id"] == second
        assert numbers(client.until("final")) == [1]
        assert client.ask(action="subscribe", run_id=first, after=6)["run_id"] == first
        assert numbers(client.until("final")) == [7]
        assert client.silent()  # it has had the other run
    for query in ("run_id=nothing", "task_id=nothing", f"run_id={first}&after=x", f"run_id={first}&task_id={root}"):
        with socket(server.url, path=f"/ws?{query}") as client:
            heard, code = client.heard_until_closed()
            assert ([message["type"] for message in heard], code) == (["error"], 4404), query
    server.finished(other)


def test_words_of_a_model_are_tokens_for_a_connection_that_asks_for_them(server: Server) -> None:
    asked: Json = {"name": "a", "schemas": {"method": "llm_executor"}, "inputs": {"prompt": "Hi", "model": "demo/demo"}}
    with socket(server.url, path="/ws?tokens=true") as asking, socket(server.url, path="/ws?tokens=false") as plain:
        assert asking.next()["type"] == "subscribed"
        root = server.rpc("tasks.execute", {"tasks": asked, "wait": True})["task_id"]
        words = server.rpc("tasks.get", {"task_id": root})["result"]["content"]
        for client, expected in ((asking, "token"), (plain, "log")):
            heard = client.until("final")
            while heard[-1]["root_task_id"] != root:
                heard = client.until("final")  # the server was still sending events of an earlier test
            said = [message for message in heard if message.get("root_task_id") == root and message["data"]["message"]]
            assert "".join(each["data"]["message"] for each in said[:-1]).strip() == words
            assert {each["type"] for each in said[:-1]} == {expected}
        assert plain.ask(action="subscribe", task_id=root, tokens=True, after=0)["type"] == "subscribed"
        assert "token" in {message["type"] for message in plain.until("final")}
    with socket(server.url, path="/ws?tokens=1") as client:
        heard, code = client.heard_until_closed()
        assert ([message["type"] for message in heard], code) == (["error"], 4404)


def test_unsubscribing_ends_it_and_subscribing_to_nothing_in_particular_begins_it_again(
    server: Server, client: Client
) -> None:
    root = ran(server)
    while client.until("final")[-1]["root_task_id"] != root:
        pass  # the server was still sending events of an earlier test
    assert client.ask(action="unsubscribe", task_id=root)["type"] == "unsubscribed"
    server.rpc("tasks.execute", {"task_id": root, "copy_execution": True, "wait": True})
    assert {message["root_task_id"] for message in client.until("final")} != {root}
    server.rpc("tasks.execute", {"task_id": root, "wait": True})
    assert client.silent()
    assert client.ask(action="unsubscribe") == {"type": "unsubscribed"}
    ran(server)
    assert client.silent()
    assert client.ask(action="subscribe") == {"type": "subscribed"}
    ran(server)
    assert client.until("final")


def test_a_call_is_answered_on_the_same_connection(client: Client) -> None:
    client.ask(action="unsubscribe")
    client.call("tasks.create", {"name": "x"}, id="mine")
    reply = client.next()
    assert (reply["id"], reply["result"]["name"]) == ("mine", "x")
    client.send(jsonrpc="2.0", method="tasks.create", params={"name": "y"})
    reply = client.next()
    assert (reply["id"], reply["result"]["name"]) == (None, "y")


def test_a_batch_is_answered_together(client: Client) -> None:
    calls = [{"jsonrpc": "2.0", "method": "tasks.count", "id": number} for number in (1, 2)]
    client.connection.send(str(calls).replace("'", '"'))
    replies: Any = client.next()
    assert [reply["id"] for reply in replies] == [1, 2]


@pytest.mark.parametrize("narrowed", [False, True])
def test_a_stream_is_the_reply_and_then_every_event_and_its_end(client: Client, narrowed: bool) -> None:
    if narrowed:
        client.ask(action="unsubscribe")
    client.call("tasks.execute", tree() | {"use_streaming": True})
    reply, *events = client.until("stream_end")
    assert reply["result"]["status"] == "started"
    assert numbers(events) == list(range(1, 9))
    assert client.silent()
    resumed = {"task_id": reply["result"]["task_id"], "use_streaming": True, "last_event_id": 4}
    client.call("tasks.execute", resumed)
    reply, *rest = client.until("stream_end")
    assert reply["result"]["status"] == "completed"
    assert rest == events[4:]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", -32700),
        ('{"a": 1, "a": 2}', -32700),
        ("[" * 70 + "]" * 70, -32700),
        ("{}", -32600),
        ("[]", -32600),
        ('{"jsonrpc": "2.0", "method": "nothing.known", "id": 1}', -32601),
        ('{"jsonrpc": "2.0", "method": "tasks.get", "params": {"task_id": "nowhere"}, "id": 1}', -32001),
        ('{"action": "dance"}', -32602),
        ('{"action": 1}', -32602),
        ('{"action": "subscribe", "task_id": "nowhere"}', -32001),
        ('{"action": "subscribe", "task": "x"}', -32602),
        ('{"action": "subscribe", "task_id": "x", "after": -1}', -32602),
    ],
)
def test_what_is_wrong_is_answered_and_the_connection_goes_on(client: Client, text: str, code: int) -> None:
    client.connection.send(text)
    answer = client.next()
    assert answer["error"]["code"] == code
    assert client.silent()


def test_what_is_too_big_closes(client: Client) -> None:
    client.connection.send("x" * 20_001)
    assert client.closed() == 1009


def test_who_sends_too_much_at_once_is_closed(client: Client) -> None:
    with suppress(ConnectionClosed):  # it does not wait for the last one
        for _ in range(300):
            client.send(action="ping")
    assert client.closed() == 4429


@pytest.mark.parametrize(
    ("origin", "host", "code"),
    [
        ("http://evil.example", None, 4403),
        ("null", None, 4403),
        ("http://[", None, 4403),
        (None, "evil.example", 4400),
    ],
)
def test_foreign_origins_and_hosts_are_refused(server: Server, origin: str | None, host: str | None, code: int) -> None:
    headers = {} if host is None else {"Host": host}
    with socket(server.url, origin=origin, additional_headers=headers) as client:
        assert client.closed() == code


def test_an_own_origin_is_fine(server: Server) -> None:
    with socket(server.url, origin=server.url) as client:
        assert client.silent()


def test_another_address_has_no_socket(server: Server) -> None:
    with socket(server.url, path="/nowhere") as client:
        assert client.closed() == 4404


def test_one_process_holds_only_so_many(server: Server) -> None:
    held = []
    try:
        for _ in range(20):
            held.append(socket(server.url))
            assert held[-1].__enter__().silent()
        with socket(server.url) as client:
            assert client.closed() == 1013
        response = server.http.get(f"/tasks/{ran(server)}/events")
        assert response.json()["error"]["code"] == -32029
    finally:
        for one in held:
            one.__exit__(None, None, None)
