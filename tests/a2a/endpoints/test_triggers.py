"""`POST /webhook/trigger/{task_id}`: other schedulers run tasks, with a token or with a signature."""

import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest

from tests.a2a.rest.test_rest import as_
from tests.fork_server import run_command
from tests.servers import Json, Server, environment_of, new_database, running_server
from tests.shared_servers import JWT_SECRET

pytestmark = pytest.mark.both_engines_nightly

SECRET: Final = "9fYb2Lm-trigger-Qz0xW4"
ECHO: Final[Json] = {"name": "echo_executor", "inputs": {"text": "hi"}}


@pytest.fixture(scope="module")
def signed_server() -> Iterator[Server]:
    env = {"AIPARTNERUPFLOW_AUTH_TRIGGER_SECRET": SECRET, "AIPARTNERUPFLOW_AUTH_JWT_SECRET": JWT_SECRET}
    with new_database() as url, running_server(url, env=env) as server:
        yield server


def signature(
    task_id: str, body: bytes = b"", *, stamp: str = "", secret: str = SECRET, query: str = "async=true"
) -> Json:
    stamp = stamp or now()
    signed = f"POST\n/webhook/trigger/{task_id}?{query}\n{stamp}\n".encode() + body
    return {
        "X-Webhook-Signature": hmac.new(secret.encode(), signed, "sha256").hexdigest(),
        "X-Webhook-Timestamp": stamp,
    }


def now(*, later: int = 0) -> str:
    return str(int(time.time()) + later)


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


@pytest.mark.both_engines
def test_a_signature_runs_the_task_as_its_owner_once(signed_server: Server) -> None:
    task_id = stored(signed_server, "signed-alice")
    body = b'{"from": "cron"}'
    signed = signature(task_id, body, query="async=false")
    done = trigger(signed_server, task_id, body=body, headers=signed, is_async="false")
    assert (done.status_code, done.json()["status"]) == (200, "completed")
    again = trigger(signed_server, task_id, body=body, headers=signed, is_async="false")
    assert (again.status_code, again.json()["error"][:27]) == (400, "The signature has been used")
    task = signed_server.http.get(f"/api/tasks/{task_id}/", headers=as_("signed-alice")).json()
    assert task["status"] == "completed"
    assert signed_server.query("SELECT count(*) FROM tasks_run WHERE root_id = %s", task_id) == [(1,)]
    missing = trigger(signed_server, "no-such-task", headers=signature("no-such-task"))
    assert (missing.status_code, missing.json()["success"], missing.json()["task_id"]) == (400, False, "no-such-task")


def test_a_signature_is_that_of_one_task_with_one_query(signed_server: Server) -> None:
    task_id, other = stored(signed_server, "signed-carol"), stored(signed_server, "signed-dave")
    signed = signature(task_id)
    for refused in (
        trigger(signed_server, other, headers=signed),
        trigger(signed_server, task_id, headers=signed, is_async="false"),
    ):
        assert (refused.status_code, refused.json()["error"][:17]) == (400, "Invalid signature")
    assert trigger(signed_server, task_id, headers=signed).json()["success"] is True


def test_a_signature_gives_an_owner_no_role_that_the_owner_does_not_have(signed_server: Server) -> None:
    task_id = stored(signed_server, "signed-viewer")
    words = ("users", "create", "signed-viewer", "--role", "viewer", "--password", "a-password-of-a-viewer-7Qx")
    made = run_command(*words, env=environment_of(signed_server.database_url, signed_server.data_dir))
    assert made.returncode == 0, made.stderr
    refused = trigger(signed_server, task_id, headers=signature(task_id))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role_too_low")


WRONG: Final[dict[str, tuple[bytes, Callable[[str], Json]]]] = {
    "other body": (b"other", signature),
    "other secret": (b"", lambda task_id: signature(task_id, secret="another")),
    "old": (b"", lambda task_id: signature(task_id, stamp=now(later=-3_600))),
    "no time": (b"", lambda task_id: signature(task_id, stamp="soon")),
    "without time": (b"", lambda task_id: signature(task_id) | {"X-Webhook-Timestamp": ""}),
    "no hexadecimal": (b"", lambda _: {"X-Webhook-Signature": "é"}),
    "of before": (b"", lambda _: {"X-Webhook-Signature": of_timestamp_and_body(now()), "X-Webhook-Timestamp": now()}),
}


def of_timestamp_and_body(stamp: str) -> str:
    """The signature of the predecessor, which names no task."""
    return hmac.new(SECRET.encode(), f"{stamp}.".encode(), "sha256").hexdigest()


def test_a_wrong_signature_runs_nothing(signed_server: Server) -> None:
    task_id = stored(signed_server, "signed-bob")
    for name, (body, made) in WRONG.items():
        raw = {header: value.encode() for header, value in made(task_id).items()}
        refused = trigger(signed_server, task_id, body=body, headers=raw)
        assert refused.status_code == 400, name
        assert (refused.json()["success"], refused.json()["error"][:17]) == (False, "Invalid signature"), name
    task = signed_server.http.get(f"/api/tasks/{task_id}/", headers=as_("signed-bob")).json()
    assert (task["status"], task["run_status"]) == ("pending", None)


def test_without_a_secret_no_signature_is_taken(auth_server: Server) -> None:
    refused = trigger(auth_server, "any", headers=signature("any"))
    assert (refused.status_code, "auth.trigger_secret is not set" in refused.json()["error"]) == (400, True)


def test_other_methods_and_values_are_refused(open_server: Server) -> None:
    assert open_server.http.get("/webhook/trigger/x").status_code == 405
    wrong = trigger(open_server, "x", is_async="maybe")
    assert (wrong.status_code, "async: must be true or false" in wrong.text) == (400, True)
    too_large = trigger(open_server, "x", body=b"x" * 70_000, headers={"X-Webhook-Signature": "0"})
    assert too_large.status_code == 400, "no secret, so it is not even read"
