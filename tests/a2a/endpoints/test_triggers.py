"""`POST /webhook/trigger/{task_id}`: other schedulers run tasks, with a token or with a signature."""

import hmac
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.a2a.rest.test_rest import as_
from tests.servers import Json, Server, new_database, running_server
from tests.shared_servers import JWT_SECRET

pytestmark = pytest.mark.both_engines_nightly

SECRET: Final = "9fYb2Lm-trigger-Qz0xW4"
ECHO: Final[Json] = {"name": "echo_executor", "inputs": {"text": "hi"}}


@pytest.fixture(scope="module")
def signed_server() -> Iterator[Server]:
    env = {"AIPARTNERUPFLOW_AUTH_TRIGGER_SECRET": SECRET, "AIPARTNERUPFLOW_AUTH_JWT_SECRET": JWT_SECRET}
    with new_database() as url, running_server(url, env=env) as server:
        yield server


def signature(body: bytes, stamp: str, *, secret: str = SECRET) -> dict[str, str]:
    found = hmac.new(secret.encode(), stamp.encode() + b"." + body, "sha256").hexdigest()
    return {"X-Webhook-Signature": found, "X-Webhook-Timestamp": stamp}


def trigger(
    server: Server, task_id: str, *, body: bytes = b"", headers: Any = None, is_async: str = "true"
) -> httpx.Response:
    query = {"async": is_async}
    return server.http.post(f"/webhook/trigger/{task_id}", content=body, headers=headers, params=query)


def stored(server: Server, who: str) -> str:
    task: Json = server.http.post("/api/tasks/", json={"tasks": [ECHO]}, headers=as_(who)).json()
    return str(task["id"])


@pytest.mark.both_engines
def test_a_token_runs_the_callers_own_task(auth_server: Server) -> None:
    task_id = stored(auth_server, "trigger-alice")
    done = trigger(auth_server, task_id, headers=as_("trigger-alice"), is_async="false")
    assert (done.status_code, done.json()["status"], done.json()["result"]) == (200, "completed", {"text": "hi"})
    foreign = trigger(auth_server, task_id, headers=as_("trigger-bob"))
    absent = trigger(auth_server, "no-such-task", headers=as_("trigger-bob"))
    assert (foreign.status_code, absent.status_code) == (400, 400)
    assert foreign.text.replace(task_id, "no-such-task") == absent.text
    assert trigger(auth_server, task_id).status_code == 401
    viewer = trigger(auth_server, task_id, headers=as_("trigger-alice", roles=["viewer"]))
    assert (viewer.status_code, viewer.json()["error"]["code"]) == (403, "role_too_low")


def test_a_signature_runs_the_task_as_its_owner(signed_server: Server) -> None:
    task_id = stored(signed_server, "signed-alice")
    body, stamp = b'{"from": "cron"}', str(int(time.time()))
    done = trigger(signed_server, task_id, body=body, headers=signature(body, stamp), is_async="false")
    assert (done.status_code, done.json()["status"]) == (200, "completed")
    task = signed_server.http.get(f"/api/tasks/{task_id}/", headers=as_("signed-alice")).json()
    assert task["status"] == "completed"
    missing = trigger(signed_server, "no-such-task", headers=signature(b"", stamp))
    assert (missing.status_code, missing.json()["success"], missing.json()["task_id"]) == (400, False, "no-such-task")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"other", signature(b"", str(int(time.time())))),
        (b"", signature(b"", str(int(time.time())), secret="another")),
        (b"", signature(b"", str(int(time.time()) - 3_600))),
        (b"", signature(b"", "soon")),
        (b"", {"X-Webhook-Signature": signature(b"", "")["X-Webhook-Signature"]}),
        (b"", {"X-Webhook-Signature": "é"}),
    ],
    ids=["other body", "other secret", "old", "no time", "without time", "no hexadecimal"],
)
def test_a_wrong_signature_runs_nothing(signed_server: Server, body: bytes, headers: dict[str, str]) -> None:
    task_id = stored(signed_server, "signed-bob")
    raw = {name: value.encode() for name, value in headers.items()}
    refused = trigger(signed_server, task_id, body=body, headers=raw)
    assert refused.status_code == 400
    assert (refused.json()["success"], refused.json()["error"][:17]) == (False, "Invalid signature")
    task = signed_server.http.get(f"/api/tasks/{task_id}/", headers=as_("signed-bob")).json()
    assert (task["status"], task["run_status"]) == ("pending", None)


def test_without_a_secret_no_signature_is_taken(auth_server: Server) -> None:
    refused = trigger(auth_server, "any", headers=signature(b"", str(int(time.time()))))
    assert (refused.status_code, "auth.trigger_secret is not set" in refused.json()["error"]) == (400, True)


def test_other_methods_and_values_are_refused(open_server: Server) -> None:
    assert open_server.http.get("/webhook/trigger/x").status_code == 405
    wrong = trigger(open_server, "x", is_async="maybe")
    assert (wrong.status_code, "async: must be true or false" in wrong.text) == (400, True)
    too_large = trigger(open_server, "x", body=b"x" * 70_000, headers={"X-Webhook-Signature": "0"})
    assert too_large.status_code == 400, "no secret, so it is not even read"
