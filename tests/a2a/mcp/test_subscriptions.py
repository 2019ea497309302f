"""`subscriptions/listen`: what changes in runs comes without a question."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import PREFIX, Client, Json

pytestmark = pytest.mark.both_engines_nightly
TASKS = "io.modelcontextprotocol/tasks"
LISTEN = "subscriptions/listen"


@pytest.fixture
def host(modern: Client) -> Client:
    """A client with the extension for tasks."""
    return replace(modern, capabilities={"extensions": {TASKS: {}}})


def gated(host: Client, gate: Path) -> str:
    """A task that ends once the file is there."""
    tasks = [{"name": "work", "schemas": {"method": "scripted_executor"}, "inputs": {"gate": str(gate)}}]
    task_id: str = host.call("run_tree", tasks=tasks)["taskId"]
    return task_id


def test_changes_of_a_run_come_as_notifications(host: Client, tmp_path: Path) -> None:
    task_id = gated(host, tmp_path / "gate")
    uris = [f"task://{task_id}", f"task://{task_id}/tree"]
    wanted = {"resourceSubscriptions": [*uris, "task://nothing", "file:///etc"], "taskIds": [task_id, "nothing"]}
    seen: list[Json] = []
    with host.stream(LISTEN, {"notifications": wanted | {"toolsListChanged": True}}) as messages:
        first = next(messages)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == {"resourceSubscriptions": uris, "taskIds": [task_id]}
        for message in messages:
            seen.append(message)
            if message["params"].get("status") == "working":
                (tmp_path / "gate").touch()
            if message["params"].get("status") == "completed":
                break
    ids = {message["params"]["_meta"][f"{PREFIX}subscriptionId"] for message in (first, *seen)}
    assert len(ids) == 1
    tasks = [each["params"] for each in seen if each["method"] == "notifications/tasks"]
    assert tasks[0]["status"] == "working"
    assert tasks[-1]["result"]["structuredContent"]["status"] == "completed"
    assert {each["params"]["uri"] for each in seen if each["method"] == "notifications/resources/updated"} == {*uris}


def test_a_task_that_is_over_is_sent_at_once(host: Client, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    task_id = gated(host, tmp_path / "gate")
    with host.stream(LISTEN, {"notifications": {"taskIds": [task_id]}}) as messages:
        assert any(message["params"].get("status") == "completed" for message in messages)
    with host.stream(LISTEN, {"notifications": {"taskIds": [task_id]}}) as messages:
        next(messages)
        assert next(messages)["params"]["status"] == "completed"


def test_runs_of_others_are_as_if_they_were_not_there(host: Client, bob: Client, tmp_path: Path) -> None:
    task_id = gated(host, tmp_path / "gate")
    other = replace(host, token=bob.token)
    firsts = []
    for name in (task_id, "nothing"):
        wanted = {"resourceSubscriptions": [f"task://{name}"], "taskIds": [name]}
        with other.stream(LISTEN, {"notifications": wanted}) as messages:
            firsts.append(next(messages)["params"]["notifications"])
    assert firsts == [{}, {}]
    (tmp_path / "gate").touch()


def test_a_session_of_an_older_client_watches_resources(legacy: Client, host: Client, tmp_path: Path) -> None:
    client, uri = legacy.begun(), f"task://{gated(host, tmp_path / 'gate')}"
    for watched in (uri, f"{uri}/tree"):
        assert client.result("resources/subscribe", {"uri": watched}) == {}
    assert client.result("resources/unsubscribe", {"uri": uri}) == {}
    with client.changes() as messages:
        at_first = next(messages)  # all that it watches: it may have been away
        (tmp_path / "gate").touch()
        updated = next(messages)
    changed = {"jsonrpc": "2.0", "method": "notifications/resources/updated"}
    assert updated == at_first == changed | {"params": {"uri": f"{uri}/tree"}}


def test_what_cannot_be_watched_is_refused(legacy: Client, host: Client, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    uri = f"task://{gated(host, tmp_path / 'gate')}"
    assert legacy.error("resources/subscribe", {"uri": uri})["code"] == -32600
    client = legacy.begun()
    assert client.error("resources/subscribe", {})["data"][0]["field"] == "uri"
    bob = replace(legacy, token=token_of("bob")).begun()
    theirs, missing = (bob.error("resources/subscribe", {"uri": each}) for each in (uri, "task://nothing"))
    assert str(theirs).replace(uri, "task://nothing") == str(missing)
    watch = "resources/subscribe"
    assert all(client.result(watch, {"uri": f"{uri}/events?after={number}"}) == {} for number in range(100))
    assert "at most 100" in client.error(watch, {"uri": uri})["message"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (None, "notifications"),
        ({"taskIds": "all"}, "notifications.taskIds"),
        ({"taskIds": ["a"] * 101}, "notifications.taskIds"),
    ],
)
def test_a_wrong_subscription_is_refused(host: Client, wanted: Json | None, field: str) -> None:
    error = host.error(LISTEN, {"notifications": wanted})
    assert (error["code"], error["data"][0]["field"]) == (-32602, field)


def test_tasks_need_the_extension_and_older_clients_cannot_listen(modern: Client, legacy: Client) -> None:
    assert modern.error(LISTEN, {"notifications": {"taskIds": ["a"]}})["code"] == -32021
    assert legacy.error(LISTEN, {"notifications": {}})["code"] == -32601


def test_without_a_stream_nothing_is_listened_to(modern: Client) -> None:
    body, headers = modern.request(LISTEN, {"notifications": {}})
    answer = modern.http.post("/mcp", json=body, headers=headers | {"Accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
