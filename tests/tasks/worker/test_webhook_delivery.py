"""Webhooks from end to end: a real server, its workers and a receiver over HTTP."""

import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tasks.worker.webhook_deliveries import MAX_AT_ONCE, MAX_PER_HOST
from tests.receiver import Receiver, receiving
from tests.servers import Server, new_database, running_server, until
from tests.shared_servers import PRIVATE_WEBHOOKS
from tests.sizes import size

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(private_webhooks_server: Server) -> Server:
    return private_webhooks_server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def execute(server: Server, receiver: Receiver, *tasks: Json, path: str = "/tasks", **config: Any) -> Json:
    """The reply. Without tasks it is one that echoes."""
    params = {
        "tasks": [*tasks] or [{"name": "echo_executor", "inputs": {"text": "hi"}}],
        "webhook_config": {"url": receiver.url, "token": "our token", **config},
    }
    reply: Json = server.rpc("tasks.execute", params, path=path)
    return reply


def wide_tree(width: int) -> list[Json]:
    leaves = [{"id": f"leaf-{number}", "name": "echo_executor", "parent_id": "root"} for number in range(width)]
    return [{"id": "root", "name": "root"}, *leaves]


def chain(prefix: str, length: int) -> list[Json]:
    """Each task after the next, so that the events come one by one."""
    ids = [f"{prefix}-{number}" for number in range(length)]
    return [
        {
            "id": each,
            "name": "echo_executor",
            "parent_id": ids[0] if number else None,
            "dependencies": ids[number + 1 :][:1],
        }
        for number, each in enumerate(ids)
    ]


def row_of(server: Server, reply: Json, *columns: str) -> tuple[Any, ...]:
    """The webhook of a reply, as the database has it."""
    (row,) = server.query(f"SELECT {', '.join(columns)} FROM tasks_webhook WHERE id = %s", reply["webhook"]["id"])
    return row


def log_of(server: Server, reply: Json) -> list[tuple[Any, ...]]:
    return server.query(
        "SELECT seq, status, attempts, status_code FROM tasks_webhookdelivery WHERE webhook_id = %s ORDER BY seq",
        reply["webhook"]["id"],
    )


def until_closed(server: Server, reply: Json) -> None:
    until(lambda: row_of(server, reply, "closed_at")[0], seconds=60, what="the end of the webhook")


@pytest.mark.both_engines
def test_it_gets_the_events_of_the_stream_in_their_order(server: Server, receiver: Receiver) -> None:
    reply = execute(server, receiver, *wide_tree(20))
    received = receiver.until("final")
    assert received == [event for event in server.finished(reply["task_id"]) if event["type"] != "stream_end"]
    until_closed(server, reply)
    assert log_of(server, reply) == [(event["seq"], "delivered", 1, 200) for event in received]


def test_each_event_is_signed_and_has_the_clients_own_headers(server: Server, receiver: Receiver) -> None:
    started_at = int(time.time())
    execute(server, receiver, headers={"Authorization": "Bearer of news", "X-Mine": "1"})
    receiver.until("final")
    for delivery in receiver.received:
        timestamp = delivery.headers["x-apflow-timestamp"]
        signed = hmac.new(b"our token", timestamp.encode() + b"." + delivery.body, hashlib.sha256).hexdigest()
        assert delivery.headers["x-apflow-signature"] == f"sha256={signed}"
        assert started_at <= int(timestamp) <= time.time()
        assert delivery.headers["x-apflow-event-id"] == f"{delivery.event['run_id']}-{delivery.event['seq']}"
        assert delivery.headers["content-type"] == "application/json"
        assert (delivery.headers["authorization"], delivery.headers["x-mine"]) == ("Bearer of news", "1")
        assert (delivery.method, delivery.path) == ("POST", "/hook")


def test_without_a_token_the_reply_tells_the_key(server: Server, receiver: Receiver) -> None:
    reply = execute(server, receiver, token=None)
    receiver.until("final")
    key, delivery = reply["webhook"]["signing_key"], receiver.received[0]
    signed = hmac.new(key.encode(), delivery.headers["x-apflow-timestamp"].encode() + b"." + delivery.body, "sha256")
    assert delivery.headers["x-apflow-signature"] == f"sha256={signed.hexdigest()}"


def test_a_token_of_the_clients_is_told_nowhere(server: Server, receiver: Receiver) -> None:
    reply = execute(server, receiver, headers={"X-Key": "a secret of mine"})
    assert list(reply["webhook"]) == ["id"]
    receiver.until("final")
    row = str(server.query("SELECT * FROM tasks_webhook WHERE id = %s", reply["webhook"]["id"]))
    assert "our token" not in row
    assert "a secret of mine" not in row
    log = server.log.read_text()
    assert "our token" not in log
    assert "a secret of mine" not in log


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429])
def test_what_may_pass_is_tried_again_before_the_next_event(server: Server, receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    reply = execute(server, receiver)
    assert [event["seq"] for event in receiver.until("final")] == [1, 1, 2, 3]
    until_closed(server, reply)
    assert log_of(server, reply)[0] == (1, "delivered", 2, 200)


def test_a_receiver_that_is_away_gets_all_once_it_is_back(server: Server, receiver: Receiver) -> None:
    with receiving() as away:
        port = away.port
    reply = execute(server, away)
    until(lambda: row_of(server, reply, "attempt")[0] > 0, seconds=60, what="a try that failed")
    with receiving(port) as back:
        assert [event["seq"] for event in back.until("final")] == [1, 2, 3]


def test_what_is_told_of_a_failure_names_the_host_and_not_the_path_which_may_be_a_secret(server: Server) -> None:
    with receiving() as away:
        port = away.port
    reply = execute(server, away, url=f"http://127.0.0.1:{port}/services/T0/B0/s3cr3t?token=s3cr3t")
    until(lambda: row_of(server, reply, "attempt")[0] > 0, seconds=60, what="a try that failed")
    ((error,),) = server.query(
        "SELECT error FROM tasks_webhookdelivery WHERE webhook_id = %s LIMIT 1", reply["webhook"]["id"]
    )
    assert error.startswith(f"POST http://127.0.0.1:{port}: cannot connect")
    assert "s3cr3t" not in server.log.read_text()


def test_retry_after_is_obeyed(server: Server, receiver: Receiver) -> None:
    receiver.answer(429, Retry_After="2")
    execute(server, receiver)
    receiver.until_count(2)
    assert receiver.received[1].at - receiver.received[0].at >= 2


@pytest.mark.parametrize("status", [400, 401, 404, 422, 302])
def test_a_refused_event_is_not_sent_again(server: Server, receiver: Receiver, status: int) -> None:
    receiver.answer(status, Location=receiver.url)
    reply = execute(server, receiver)
    assert [event["seq"] for event in receiver.until("final")] == [1, 2, 3]
    until_closed(server, reply)
    assert log_of(server, reply) == [(1, "failed", 1, status), (2, "delivered", 1, 200), (3, "delivered", 1, 200)]
    assert row_of(server, reply, "failures", "disabled_at") == (0, None)


@pytest.mark.both_engines
def test_ten_refused_events_in_a_row_disable_it(server: Server, receiver: Receiver) -> None:
    receiver.answer(400, 400, 200, *[400] * 50)
    reply = execute(server, receiver, *wide_tree(20))
    until_closed(server, reply)
    server.finished(reply["task_id"])
    disabled_at, failures = row_of(server, reply, "disabled_at", "failures")
    assert disabled_at is not None
    assert failures == 10
    assert [event["seq"] for event in receiver.events()] == list(range(1, 14))


def test_one_that_is_gone_is_disabled_at_once(server: Server, receiver: Receiver) -> None:
    receiver.answer(410)
    reply = execute(server, receiver, *wide_tree(5))
    until_closed(server, reply)
    server.finished(reply["task_id"])
    assert row_of(server, reply, "disabled_at")[0] is not None
    assert len(receiver.received) == 1


def test_a_slow_receiver_holds_up_neither_the_run_nor_other_webhooks(server: Server, receiver: Receiver) -> None:
    with receiving() as slow:
        slow.is_held = True
        held = execute(server, slow)
        slow.until_count(1)
        assert server.finished(held["task_id"])[-1]["type"] == "stream_end"
        execute(server, receiver)
        receiver.until("final")


def test_a_host_that_hangs_leaves_places_to_others(server: Server, receiver: Receiver) -> None:
    """More webhooks hang there than all couriers have places; the other host is the same machine by another name."""
    with receiving() as slow:
        slow.is_held = True
        hanging = {"tasks": [{"name": "echo_executor"}], "webhook_config": {"url": slow.url}}
        call = {"jsonrpc": "2.0", "method": "tasks.execute", "params": hanging}
        every = range(MAX_AT_ONCE * len(server.pids().workers))
        server.http.post("/tasks", json=[call | {"id": number} for number in every]).raise_for_status()
        slow.until_count(len(server.pids().workers) * MAX_PER_HOST)
        server.rpc(
            "tasks.execute", hanging | {"webhook_config": {"url": receiver.url.replace("127.0.0.1", "localhost")}}
        )
        receiver.until("final")


@pytest.mark.sized
def test_the_events_of_many_runs_at_once_all_arrive(server: Server, receiver: Receiver) -> None:
    """A worker releases a webhook and has it again at once, many times. One that it forgot would stay claimed for minutes."""
    rounds, runs, steps = size(1, full=60), 10, 10
    for round_ in range(rounds):
        for run in range(runs):
            execute(server, receiver, *chain(f"chain-{round_}-{run}", steps))
        events = receiver.until_count((round_ + 1) * runs * (2 * steps + 1))
    assert sum(event["type"] == "final" for event in events) == rounds * runs


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tasks/", {"tasks": [{"name": "echo_executor"}], "execute": True}),
        ("/api/tasks/stored/execute/", {}),
    ],
)
def test_rest_takes_webhooks_too(server: Server, receiver: Receiver, path: str, body: Json) -> None:
    server.call("tasks.create", {"tasks": [{"id": "stored", "name": "echo_executor"}]})
    response = server.http.post(path, json=body | {"webhook_config": {"url": receiver.url, "method": "PUT"}})
    assert response.status_code in (201, 202), response.text
    assert response.json()["webhook"]["signing_key"].startswith("whsec_")
    assert receiver.until("final")[-1]["status"] == "completed"
    assert {delivery.method for delivery in receiver.received} == {"PUT"}


@pytest.mark.parametrize("token", [None, "our token", "whsec_not base64"])
def test_the_library_of_standard_webhooks_verifies_each_request(
    server: Server, receiver: Receiver, token: str | None
) -> None:
    """With the key that the server has made, as it is; a token of one's own is the bytes of the key."""
    reply = execute(server, receiver, token=token)
    key = reply["webhook"]["signing_key"] if token is None else token.encode()
    receiver.until("final")
    for delivery in receiver.received:
        assert Webhook(key).verify(delivery.body, delivery.headers) == delivery.event
        assert delivery.headers["webhook-id"] == delivery.headers["x-apflow-event-id"]
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(delivery.body + b" ", delivery.headers)


def test_the_a2a_dialect_tells_of_it_in_the_metadata(server: Server, receiver: Receiver) -> None:
    task = execute(server, receiver, path="/")
    assert task["metadata"]["webhook"]["id"]
    receiver.until("final")


def test_a_repeated_request_adds_no_second_webhook(server: Server, receiver: Receiver) -> None:
    params = {"tasks": [{"name": "echo_executor"}], "webhook_config": {"url": receiver.url}}
    replies = [server.rpc("tasks.execute", params, **{"Idempotency-Key": "webhook"}) for _ in range(2)]
    assert replies[0] == replies[1]
    receiver.until("final")
    until_closed(server, replies[0])
    assert len(receiver.received) == 3


def test_a_tree_that_runs_already_gets_it_from_its_first_event_on(
    server: Server, receiver: Receiver, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    inputs = {"gate": str(gate)}
    task = {"id": "running", "name": "running", "schemas": {"method": "scripted_executor"}, "inputs": inputs}
    server.rpc("tasks.execute", {"tasks": [task]})
    reply = server.rpc("tasks.execute", {"task_id": "running", "webhook_config": {"url": receiver.url}})
    assert reply["status"] == "already_running"
    gate.touch()
    assert [event["seq"] for event in receiver.until("final")] == [1, 2, 3]


@pytest.mark.both_engines
def test_a_deleted_tree_takes_its_webhooks_with_it(server: Server, receiver: Receiver) -> None:
    receiver.answer(*[500] * 20)
    reply = execute(server, receiver, {"id": "doomed", "name": "echo_executor"})
    server.finished("doomed")
    receiver.until_count(1)
    server.rpc("tasks.delete", {"task_id": "doomed", "force": True})
    assert server.query("SELECT id FROM tasks_webhook WHERE id = %s", reply["webhook"]["id"]) == []


@pytest.mark.both_engines
def test_a_worker_killed_in_the_middle_of_a_delivery_loses_nothing(receiver: Receiver) -> None:
    receiver.is_held = True
    with new_database() as database, running_server(database, env=PRIVATE_WEBHOOKS) as server:
        reply = execute(server, receiver, *wide_tree(5))
        receiver.until_count(1)
        server.finished(reply["task_id"])
        receiver.is_held = False
        server.kill(*server.pids().workers)
        seqs = [event["seq"] for event in receiver.until("final")]
        tries = seqs.count(1)
        assert tries > 1
        assert seqs == [1] * tries + list(range(2, len(seqs) - tries + 2))
        until_closed(server, reply)


def test_a_server_killed_with_deliveries_left_goes_on_after_its_restart(receiver: Receiver) -> None:
    receiver.answer(*[503] * 1000)
    with new_database() as database, running_server(database, env=PRIVATE_WEBHOOKS) as server:
        reply = execute(server, receiver, *wide_tree(5))
        total = len(server.finished(reply["task_id"])) - 1
        receiver.until_count(2)
        server.kill(*(process.pid for process in server.processes()))
        data_dir = server.data_dir
        receiver.answers.clear()
        with running_server(database, env=PRIVATE_WEBHOOKS, data_dir=data_dir) as again:
            seqs = [event["seq"] for event in receiver.until("final")]
            assert list(dict.fromkeys(seqs)) == list(range(1, total + 1))
            until_closed(again, reply)
