"""Two users and one worker: who floods the queue delays nobody but themselves."""

from typing import Any

import httpx
import pytest

from tests.a2a.a2a_client import SETTINGS, token_of
from tests.acceptance.effects import Effects
from tests.servers import Server, running_server, until

pytestmark = pytest.mark.both_engines
MOST = 20
ONE_WORKER = {
    "AIPARTNERUPFLOW_WORKER_PROCESSES": "1",
    "AIPARTNERUPFLOW_WORKER_MAX_TREES": "1",
    "AIPARTNERUPFLOW_LIMITS_RUNS_PER_USER": str(MOST),
}
Json = dict[str, Any]


def as_user(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(name)}"}


def execute(server: Server, task: Json, user: str) -> Json:
    result: Json = server.rpc("tasks.execute", {"tasks": [task]}, **as_user(user))
    return result


def test_who_floods_the_queue_is_refused_at_last_and_the_other_goes_next(database: str, effects: Effects) -> None:
    with running_server(database, env=SETTINGS | ONE_WORKER) as server:
        execute(server, effects.gated(effects.step("alice-0")), "alice")
        for number in range(1, MOST):
            execute(server, effects.step(f"alice-{number}"), "alice")
        assert_refused(server, effects.step("one-too-many"))
        execute(server, effects.step("bob"), "bob")
        execute(server, effects.step("last"), "bob")
        effects.open_gate()
        until(lambda: effects.counts("end")["last"], seconds=60, what="the end of the last")
        begun = [line for line in effects.lines() if line.startswith("start")]
        assert begun.index("start bob") <= 2
        assert begun.index("start last") <= 4
        for number in range(MOST):
            server.rpc("tasks.get", {"task_id": f"alice-{number}"}, **as_user("alice"))


def test_a_user_with_a_small_share_holds_no_more_and_one_with_a_large_share_the_rest(
    database: str, effects: Effects
) -> None:
    shares = {"AIPARTNERUPFLOW_WORKER_MAX_TREES": "4", "AIPARTNERUPFLOW_SHARES": "alice=25,bob=100"}
    with running_server(database, env=SETTINGS | ONE_WORKER | shares) as server:
        for name in ("alice", "bob"):
            for number in range(4):
                execute(server, effects.gated(effects.step(f"{name}-{number}")), name)
        until(lambda: effects.counts("start").total() == 4, seconds=60, what="all places taken")
        assert effects.counts("start").keys() == {"alice-0", "bob-0", "bob-1", "bob-2"}
        effects.open_gate()
        until(lambda: effects.counts("end").total() == 8, seconds=60, what="the end of all")


def assert_refused(server: Server, task: Json) -> None:
    """At every door, with what to do, and with nothing stored."""
    alice = as_user("alice")
    error = server.call("tasks.execute", {"tasks": [task]}, **alice)["error"]
    assert (error["code"], error["data"]["retry_after_seconds"]) == (-32029, 5)
    assert f"This user already has {MOST} unfinished runs" in error["message"]
    stored = server.http.post("/api/tasks/", json={"tasks": [task], "execute": True}, headers=alice)
    assert_come_again(stored)
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": {"tasks": [task]}}]}
    sent = server.http.post("/message:send", json={"message": message}, headers=alice | {"A2A-Version": "1.0"})
    assert_come_again(sent)
    later = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "5s"}
    assert sent.json()["error"]["details"] == [later]
    error = server.call("SendMessage", {"message": message}, path="/", **alice, **{"A2A-Version": "1.0"})["error"]
    assert (error["code"], error["data"]) == (-32029, [later])
    assert server.query("SELECT COUNT(*) FROM tasks_task WHERE name = 'one-too-many'") == [(0,)]


def assert_come_again(response: httpx.Response) -> None:
    assert (response.status_code, response.headers.get("Retry-After")) == (429, "5"), response.text
    assert "limits.runs_per_user" in response.text
