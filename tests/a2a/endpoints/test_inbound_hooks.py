"""Inbound hooks over the wire: signed requests start flows and send events, each once."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Final

import httpx
import pytest

from tests.servers import Json, Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines

SECRET: Final = "a-long-secret-that-nobody-else-knows"
JSON: Final = {"Content-Type": "application/json"}
NUMBERS: Final = count()
ECHO: Final = [{"id": "echo", "name": "echo_executor", "inputs": {"title": "{{run.inputs.title}}"}}]
CONTENTS: Final = [{"id": "echo", "name": "echo_executor", "inputs": {"all": "{{run.inputs.body}}"}}]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_LOG_REQUESTS": "true",
        "AIPARTNERUPFLOW_LIMITS_HOOK_BYTES": "65536",
        "AIPARTNERUPFLOW_LIMITS_HOOKS": "40",
    }
    with new_database() as database, running_server(database, env=settings) as server:
        server.rpc("secrets.set", {"name": "HOOK", "value": SECRET}, path="/system")
        server.rpc("flows.save", {"name": "triage", "tasks": ECHO})
        yield server


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    name = f"hook-{next(NUMBERS)}"
    yield name
    server.rpc("hooks.delete", {"name": name})


def address_of(server: Server, name: str, **given: Any) -> str:
    hook = {"name": name, "verifier": "github", "secrets": ["HOOK"]} | given
    if not {"flow", "event", "answers"} & hook.keys():
        hook = {"flow": "triage", "inputs": {"title": "{{body.issue.title}}"}} | hook
    found: str = server.rpc("hooks.set", hook)["url"]
    return found.removeprefix(server.url)


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"}


def post(server: Server, address: str, body: Json | bytes, *, delivery: str = "d-1", **headers: str) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.http.post(address, content=raw, headers=JSON | {"X-GitHub-Delivery": delivery} | signed(raw) | more)


def issue(title: str = "Broken") -> Json:
    return {"action": "opened", "issue": {"title": title, "number": next(NUMBERS)}}


def deliveries(server: Server, name: str, **given: Any) -> list[Json]:
    found: list[Json] = server.rpc("hooks.deliveries", {"name": name} | given)["deliveries"]
    return found


def test_a_delivery_starts_the_flow_with_its_inputs(server: Server, name: str) -> None:
    address = address_of(server, name)
    reply = post(server, address, issue("Crash"))
    assert (reply.status_code, reply.json()) == (200, {"success": True, "outcome": "started", "is_repeated": False})
    (row,) = deliveries(server, name, with_body=True)
    assert (row["outcome"], row["reason"], row["delivery_id"]) == ("started", None, "d-1")
    assert row["headers"] == {"x-github-delivery": "d-1"}
    assert row["body"]["issue"]["title"] == "Crash"
    assert server.finished(row["task_id"])[-1]["status"] == "completed"
    assert server.rpc("tasks.get", {"task_id": row["task_id"]})["result"]["title"] == "Crash"
    assert server.rpc("runs.get", {"run_id": row["run_id"]})["flow"]["name"] == "triage"


def test_without_a_mapping_the_flow_gets_what_it_takes(server: Server, name: str) -> None:
    server.rpc("flows.save", {"name": "contents", "tasks": CONTENTS})
    address = address_of(server, name, flow="contents")
    body = issue()
    assert post(server, address, body).status_code == 200
    (row,) = deliveries(server, name)
    server.finished(row["task_id"])
    assert server.rpc("tasks.get", {"task_id": row["task_id"]})["result"] == {"all": body}


def test_unknown_hooks_wrong_signatures_and_missing_ones_get_the_same_bytes(server: Server, name: str) -> None:
    address = address_of(server, name)
    body = json.dumps(issue()).encode()
    good = signed(body)["X-Hub-Signature-256"]
    found = [
        server.http.post(where, content=body, headers=JSON | headers)
        for where, headers in (
            ("/hooks/in/nonsense", signed(body)),
            ("/hooks/in/nonsense", {}),
            (f"{address}x", signed(body)),
            (address, {}),
            (address, signed(body, "another secret")),
            (address, signed(body + b" ")),
            (address, {"X-Hub-Signature-256": good.removeprefix("sha256=")}),
            (address, {"X-Hub-Signature-256": good.upper()}),
        )
    ]
    not_ascii = [(b"Content-Type", b"application/json"), (b"X-Hub-Signature-256", b"sha256=\xff")]
    found.append(server.http.post(address, content=body, headers=not_ascii))
    assert {(each.status_code, each.content) for each in found} == {(403, found[0].content)}
    assert deliveries(server, name) == []
    for each in found:
        assert "www-authenticate" not in each.headers


def test_fifty_concurrent_repeats_start_one_run(server: Server, name: str) -> None:
    address, body = address_of(server, name), issue()
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: post(server, address, body, delivery="same"), range(50)))
    assert {each.status_code for each in replies} == {200}
    assert sum(not each.json()["is_repeated"] for each in replies) == 1
    (row,) = deliveries(server, name)
    runs = server.query("SELECT COUNT(*) FROM tasks_run WHERE id = %s", row["run_id"])
    assert runs == [(1,)]
    flow_runs = [each for each in server.rpc("runs.list", {"flow": "triage"})["runs"] if each["id"] == row["run_id"]]
    assert len(flow_runs) == 1


def test_the_same_bytes_with_another_delivery_id_are_a_replay(server: Server, name: str) -> None:
    address, body = address_of(server, name), issue()
    assert post(server, address, body, delivery="first").status_code == 200
    again = post(server, address, body, delivery="second")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "status_conflict")
    assert [each["delivery_id"] for each in deliveries(server, name)] == ["first"]


def test_a_delivery_that_failed_is_tried_again_when_it_is_repeated(server: Server, name: str) -> None:
    address, body = address_of(server, name, inputs={"title": "{{body.nothing}}"}), issue()
    failed = post(server, address, body)
    assert (failed.status_code, failed.json()["error"]["code"]) == (422, "failed")
    (row,) = deliveries(server, name)
    assert row["outcome"] == "failed"
    assert "'{{body.nothing}}' has no value" in row["reason"]
    address_of(server, name)
    assert post(server, address, body).status_code == 200
    (row,) = deliveries(server, name)
    assert (row["outcome"], row["reason"]) == ("started", None)


def test_the_owner_replays_a_delivery_on_purpose(server: Server, name: str) -> None:
    address = address_of(server, name)
    post(server, address, issue())
    (first,) = deliveries(server, name)
    again = server.rpc("hooks.replay", {"name": name, "delivery": first["delivery"]})
    assert (again["outcome"], again["replay_of"]) == ("started", first["delivery"])
    assert again["run_id"] != first["run_id"]
    assert [each["delivery"] for each in deliveries(server, name)] == [again["delivery"], first["delivery"]]
    error = server.call("hooks.replay", {"name": name, "delivery": 10**12})["error"]
    assert (error["code"], "has no delivery" in error["message"]) == (-32001, True)


def test_the_filter_decides(server: Server, name: str) -> None:
    condition = {
        "all": [
            {"path": "/headers/x-github-event", "op": "eq", "value": "issues"},
            {"path": "/body/action", "op": "in", "value": ["opened", "reopened"]},
        ]
    }
    address = address_of(server, name, filter=condition)
    replies = [
        post(server, address, issue(), delivery="1", X_GitHub_Event="issues"),
        post(server, address, issue(), delivery="2", X_GitHub_Event="push"),
        post(server, address, issue() | {"action": "closed"}, delivery="3", X_GitHub_Event="issues"),
        post(server, address, {"zen": "Design for failure."}, delivery="4", X_GitHub_Event="ping"),
    ]
    assert [each.json()["outcome"] for each in replies] == ["started", "filtered", "filtered", "filtered"]
    rows = deliveries(server, name)
    assert [each["run_id"] is None for each in rows] == [True, True, True, False]
    assert "ping" in rows[0]["reason"]


def test_a_delivery_becomes_an_event_that_a_task_waits_for(server: Server, name: str) -> None:
    task_id = f"waits-{next(NUMBERS)}"
    waiting = {"id": task_id, "name": "event_executor", "inputs": {"event": f"{task_id}.closed"}}
    server.rpc("tasks.execute", {"tasks": [waiting]})
    until(lambda: server.rpc("tasks.detail", {"task_id": task_id})["wait"], seconds=60, what="the wait")
    address = address_of(server, name, event=task_id + ".{{body.action}}", payload={"number": "{{body.issue.number}}"})
    body = issue() | {"action": "closed"}
    assert post(server, address, body).json()["outcome"] == "sent"
    assert server.finished(task_id)[-1]["status"] == "completed"
    result = server.rpc("tasks.get", {"task_id": task_id})["result"]
    assert result["payload"] == {"number": body["issue"]["number"]}
    assert deliveries(server, name)[0]["event_id"] == result["id"]


def test_a_secret_that_is_missing_is_named_as_one_of_the_hook(server: Server, name: str) -> None:
    hook = {"name": name, "verifier": "github", "secrets": ["NOT_THERE"], "event": "e"}
    assert "no secret 'NOT_THERE' that the owner of this hook may use" in str(server.call("hooks.set", hook))


def test_two_secrets_are_valid_during_a_rotation(server: Server, name: str) -> None:
    server.rpc("secrets.set", {"name": "NEW", "value": "the-next-secret-of-this-hook"}, path="/system")
    address = address_of(server, name, secrets=["NEW", "HOOK"])
    body = json.dumps(issue()).encode()
    for number, secret in enumerate((SECRET, "the-next-secret-of-this-hook")):
        raw = body + b" " * number
        headers = JSON | signed(raw, secret) | {"X-GitHub-Delivery": str(number)}
        assert server.http.post(address, content=raw, headers=headers).status_code == 200
    address_of(server, name, secrets=["NEW"])
    assert post(server, address, issue(), delivery="late").status_code == 403
    server.rpc("secrets.delete", {"name": "NEW"}, path="/system")
    raw = json.dumps(issue()).encode()
    headers = JSON | signed(raw, "the-next-secret-of-this-hook") | {"X-GitHub-Delivery": "later"}
    assert server.http.post(address, content=raw, headers=headers).status_code == 403


def stripe(body: bytes, at: float, secret: str = SECRET) -> dict[str, str]:
    stamp = str(int(at))
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return JSON | {"Stripe-Signature": f"t={stamp},v1={mac}"}


def test_old_signatures_are_refused_and_a_retry_signed_later_is_a_repetition(server: Server, name: str) -> None:
    address = address_of(server, name, verifier="stripe", event="stripe.{{body.type}}", tolerance_seconds=600)
    body, now = b'{"id": "evt_1", "type": "invoice.paid"}', time.time()
    old, future = (server.http.post(address, content=body, headers=stripe(body, now + off)) for off in (-900, 900))
    assert old.content == future.content == server.http.post("/hooks/in/x", content=body).content
    first = server.http.post(address, content=body, headers=stripe(body, now - 60))
    retry = server.http.post(address, content=body, headers=stripe(body, now))
    assert [each.json()["is_repeated"] for each in (first, retry)] == [False, True]
    assert [each["delivery_id"] for each in deliveries(server, name)] == ["evt_1"]


def test_slack_verifies_the_address_and_gets_an_empty_reply_to_events(server: Server, name: str) -> None:
    address = address_of(server, name, verifier="slack", event="slack.{{body.event.type}}")

    def slack(body: Json, at: float) -> httpx.Response:
        raw, stamp = json.dumps(body).encode(), str(int(at))
        mac = hmac.new(SECRET.encode(), b"v0:" + stamp.encode() + b":" + raw, hashlib.sha256).hexdigest()
        headers = JSON | {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}
        return server.http.post(address, content=raw, headers=headers)

    challenge = {"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": "3eZbrw1aBm2r", "type": "url_verification"}
    assert slack(challenge, time.time()).json() == {"challenge": "3eZbrw1aBm2r"}
    assert slack(challenge, time.time() - 4000).status_code == 403
    event = {"type": "event_callback", "token": "z", "event_id": "Ev08MFMKH6", "event": {"type": "app_mention"}}
    reply = slack(event, time.time())
    assert (reply.status_code, reply.content) == (200, b"")
    (row,) = deliveries(server, name, with_body=True)
    assert (row["delivery_id"], row["outcome"]) == ("Ev08MFMKH6", "sent")
    assert "token" not in row["body"]


def test_an_own_scheme(server: Server, name: str) -> None:
    scheme = {
        "header": "X-Sig",
        "algorithm": "sha512",
        "encoding": "base64",
        "prefix": "mac ",
        "timestamp_header": "X-Time",
        "id_path": "/id",
        "headers": ["X-Kind"],
    }
    address = address_of(
        server, name, verifier="hmac", hmac=scheme, event="own", payload={"kind": "{{headers.x-kind}}"}
    )
    raw, stamp = b'{"id": 7}', str(int(time.time()))
    mac = base64.b64encode(hmac.new(SECRET.encode(), f"{stamp}.".encode() + raw, hashlib.sha512).digest()).decode()
    headers = JSON | {"X-Sig": f"mac {mac}", "X-Time": stamp, "X-Kind": "a", "X-Other": "b"}
    assert server.http.post(address, content=raw, headers=headers).json()["outcome"] == "sent"
    (row,) = deliveries(server, name, with_body=True)
    assert (row["delivery_id"], row["headers"]) == ("7", {"x-kind": "a"})
    assert server.rpc("hooks.get", {"name": name})["hmac"]["header"] == "x-sig"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b'{"a": "\\u0000"}', JSON, 400),
        (b"[" * 200 + b"]" * 200, JSON, 400),
        (b"a=%00", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"x" * 65_537, JSON, 413),
    ],
)
def test_a_signed_body_that_cannot_be_read_is_refused(
    server: Server, name: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    address = address_of(server, name)
    reply = server.http.post(address, content=body, headers=headers | signed(body))
    assert reply.status_code == status
    if status != 413:  # unsigned, nobody learns whether it can be read
        assert server.http.post(address, content=body, headers=headers).status_code == 403
    assert deliveries(server, name) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_a_post_is_a_delivery(server: Server, name: str, method: str) -> None:
    assert server.http.request(method, address_of(server, name)).status_code == 405


def test_neither_the_secret_nor_the_address_is_in_a_log_or_a_row(server: Server, name: str) -> None:
    address = address_of(server, name)
    post(server, address, issue())
    post(server, address, b"{")
    assert "/hooks/in/<str:address>" in server.log.read_text()
    assert address.rpartition("/")[2] not in server.log.read_text()
    assert SECRET not in server.log.read_text()
    for table in ("tasks_hook", "tasks_hookdelivery", "tasks_task", "tasks_taskevent", "accounts_auditentry"):
        assert SECRET not in repr(server.query(f"SELECT * FROM {table}"))


def test_a_hook_that_is_set_again_keeps_its_address_and_deliveries(server: Server, name: str) -> None:
    address = address_of(server, name)
    post(server, address, issue())
    assert address_of(server, name, event="other") == address
    assert len(deliveries(server, name)) == 1
    server.rpc("hooks.delete", {"name": name})
    assert post(server, address, issue(), delivery="2").status_code == 403
    assert server.call("hooks.deliveries", {"name": name})["error"]["code"] == -32001


def test_deliveries_are_listed_in_pages(server: Server, name: str) -> None:
    address = address_of(server, name, event="paged")
    for number in range(5):
        post(server, address, issue(), delivery=str(number))
    first = server.rpc("hooks.deliveries", {"name": name, "limit": 3})
    rest = server.rpc("hooks.deliveries", {"name": name, "limit": 3, "before": first["next_before"]})
    ids = [each["delivery_id"] for each in (*first["deliveries"], *rest["deliveries"])]
    assert (ids, rest["next_before"]) == (["4", "3", "2", "1", "0"], None)


GOOD: Final[Json] = {"name": "bad", "verifier": "github", "secrets": ["HOOK"], "event": "e"}


REFUSED: Final[list[tuple[Json, str, str]]] = [
    ({"event": None}, "flow", "required"),
    ({"flow": "triage"}, "event", "choose one"),
    ({"answers": True}, "answers", "choose one"),
    ({"event": None, "answers": True}, "answers", "slack"),
    ({"secrets": ["UNKNOWN"]}, "secrets[0]", "UNKNOWN"),
    ({"secrets": []}, "secrets", "length"),
    ({"secrets": ["HOOK", "HOOK"]}, "secrets", "twice"),
    ({"verifier": "standard"}, "secrets[0]", "Base64"),
    ({"verifier": "hmac"}, "hmac", "required"),
    ({"hmac": {"header": "x"}}, "hmac", "only known"),
    ({"verifier": "hmac", "hmac": {"header": "bad header"}}, "hmac.header", "valid"),
    ({"verifier": "hmac", "hmac": {"header": "x", "headers": ["Authorization"]}}, "hmac.headers[0]", "secret"),
    ({"verifier": "hmac", "hmac": {"header": "x", "headers": ["X"]}}, "hmac.headers[0]", "signature"),
    ({"verifier": "hmac", "hmac": {"header": "x", "encoding": "utf8"}}, "hmac.encoding", "expected one of"),
    ({"verifier": "gitlab"}, "verifier", "expected one of"),
    ({"filter": {"path": "/action", "op": "eq", "value": 1}}, "filter.path", "/body"),
    ({"filter": {"path": "/body/a", "op": "is", "value": 1}}, "filter.op", "one of"),
    ({"filter": {"task": "a", "op": "exists"}}, "filter.task", "about the delivery"),
    ({"filter": {"any": [{"path": "x", "op": "exists"}]}}, "filter.any[0].path", "JSON Pointer"),
    ({"payload": {"a": "{{secret.HOOK}}"}}, "payload.a", "body or headers"),
    ({"event": "{{task.a}}"}, "event", "body or headers"),
    ({"inputs": {"a": 1}}, "inputs", "of a flow"),
    ({"tolerance_seconds": 0}, "tolerance_seconds", "1"),
    ({"url": "x"}, "url", "unknown"),
]


def test_a_hook_that_cannot_work_is_refused_by_name(server: Server) -> None:
    wrong = []
    for given, field, words in REFUSED:
        error = server.call("hooks.set", GOOD | given)["error"]
        found = [each["reason"] for each in error.get("data") or [] if each["field"] == field]
        if error["code"] != -32602 or not any(words in reason for reason in found):
            wrong.append((given, error))
    assert not wrong
    assert server.call("hooks.get", {"name": "bad"})["error"]["code"] == -32001


def test_an_unknown_flow_is_refused(server: Server) -> None:
    error = server.call("hooks.set", GOOD | {"event": None, "flow": "no-such"})["error"]
    assert error["code"] == -32001


def test_the_limits_of_hooks(server: Server) -> None:
    names = [f"many-{number}" for number in range(41)]
    errors = [server.call("hooks.set", GOOD | {"name": each}).get("error") for each in names]
    assert errors[-1]["code"] == -32029
    assert "limits.hooks" in errors[-1]["message"]
    for each in names:
        server.rpc("hooks.delete", {"name": each})
