"""`limits.response_bytes`: no request loads more stored data than a response may contain."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.a2a.sockets import Client, socket
from tests.servers import Server, new_database, running_server

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
LIMIT: Final = 512 * 1024
LARGE: Final = 160_000
"""Three texts of this size fit into a response, four do not."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"AIPARTNERUPFLOW_LIMITS_RESPONSE_BYTES": str(LIMIT), "AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "1"}
    with new_database() as database_url, running_server(database_url, env=settings) as server:
        yield server


def echo(name: str, **fields: Any) -> Json:
    return {"id": name, "name": "echo_executor", **fields}


@pytest.fixture(scope="module")
def tree(server: Server) -> Json:
    """The stored ids of a tree that ran: a root with three children that have large results."""
    names = ("a", "b", "c")
    tasks: list[Json] = [{"id": "top", "name": "top"}]
    tasks += [echo(name, parent_id="top", inputs={"text": name * LARGE}) for name in names]
    tasks.append(echo("all", parent_id="top", inputs={}, dependencies=list(names)))
    reply = server.rpc("tasks.execute", {"tasks": tasks, "wait": True, "wait_timeout_seconds": 60})
    ids: Json = reply["ids"]
    return ids


@pytest.fixture(scope="module")
def listed(server: Server) -> list[str]:
    """The ids of five large roots of one owner, the newest first."""
    made = [
        server.rpc("tasks.create", echo(f"root-{number}", user_id="lister", inputs={"text": "x" * LARGE}))["id"]
        for number in range(5)
    ]
    return made[::-1]


def too_large(reply: Json) -> bool:
    error = reply.get("error", {})
    reason = error.get("data", [{}])[0].get("reason", "")
    return error.get("code") == -32602 and "limits.response_bytes" in reason and "smaller limit" in reason


@pytest.mark.parametrize("method", ["tasks.tree", "tasks.children", "tasks.detail", "tasks.copy"])
@pytest.mark.parametrize("path", ["/tasks", "/"])
def test_a_reply_that_would_be_too_large_is_refused(server: Server, tree: Json, method: str, path: str) -> None:
    assert too_large(server.call(method, {"task_id": tree["top"]}, path=path))


@pytest.mark.parametrize("path", ["/tasks", "/"])
def test_a_single_task_of_the_same_tree_is_answered(server: Server, tree: Json, path: str) -> None:
    assert server.call("tasks.get", {"task_id": tree["a"]}, path=path)["result"]


def test_resolved_inputs_count_too(server: Server, tree: Json) -> None:
    assert too_large(server.call("tasks.detail", {"task_id": tree["all"]}))


def test_a_page_with_a_cursor_ends_early(server: Server, listed: list[str]) -> None:
    found, cursor = list[str](), ""
    while cursor is not None:
        page = server.rpc("tasks.list", {"user_id": "lister", "cursor": cursor})
        assert 1 <= len(page["tasks"]) <= 3
        found += [task["id"] for task in page["tasks"]]
        cursor = page["next_cursor"]
    assert found == listed


def test_a_page_without_a_cursor_is_refused(server: Server, listed: list[str]) -> None:
    assert too_large(server.call("tasks.list", {"user_id": "lister"}))
    assert len(server.rpc("tasks.list", {"user_id": "lister", "limit": 2})) == 2


def test_rest_lists_page_by_page(server: Server, listed: list[str]) -> None:
    page = server.http.get("/api/tasks/", params={"user_id": "lister", "summary": "false"}).json()
    assert [task["id"] for task in page["tasks"]] == listed[:3]
    assert page["next_cursor"] is not None
    summaries = server.http.get("/api/tasks/", params={"user_id": "lister"}).json()
    assert ([task["id"] for task in summaries["tasks"]], summaries["next_cursor"]) == (listed, None)
    refused = server.http.get(f"/api/tasks/{listed[0]}/tree/")
    assert refused.status_code == 200


def test_rest_refuses_a_tree(server: Server, tree: Json) -> None:
    refused = server.http.get(f"/api/tasks/{tree['top']}/tree/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "response_too_large")


def test_the_calls_of_a_batch_share_the_limit(server: Server, tree: Json) -> None:
    call = {"jsonrpc": "2.0", "method": "tasks.get", "params": {"task_id": tree["a"]}}
    replies = server.http.post("/tasks", json=[call | {"id": number} for number in range(20)]).json()
    assert [reply["id"] for reply in replies] == list(range(20))
    assert len([reply for reply in replies if "result" in reply]) == 1  # its inputs and its result
    assert all("result" in reply or too_large(reply) for reply in replies)


def test_calls_that_load_nothing_share_it_too(server: Server) -> None:
    call = {"jsonrpc": "2.0", "method": "rpc.discover", "params": {}}
    response = server.http.post("/tasks", json=[call | {"id": number} for number in range(100)])
    assert len(response.content) < LIMIT + 10 * 2**20 + 100_000


def test_a_tree_is_stored_only_if_the_reply_fits(server: Server) -> None:
    tasks: list[Json] = [{"id": "many", "name": "many", "user_id": "many"}]
    tasks += [{"id": f"many-{number}", "name": "n", "parent_id": "many"} for number in range(600)]
    assert too_large(server.call("tasks.create", tasks))
    assert server.rpc("tasks.count", {"user_id": "many"})["total"] == 0


@pytest.mark.parametrize("path", ["/tasks", "/"])
def test_what_has_been_carried_out_is_reported(server: Server, path: str) -> None:
    """A refusal would say that nothing happened."""
    tasks: list[Json] = [{"id": "top", "name": "top"}]
    tasks += [echo(f"t{number}", parent_id="top", inputs={"text": "x" * LARGE}) for number in range(3)]
    reply = server.rpc("tasks.execute", {"tasks": tasks, "wait": True, "wait_timeout_seconds": 60}, path=path)
    native = reply if path == "/tasks" else reply["parts"][0]["data"]
    assert native["status"] == "completed"
    assert "limits.response_bytes" in native["warnings"][-1]
    assert "task" not in native


def test_a2a_lists_page_by_page_and_omits_what_is_too_large(server: Server) -> None:
    headers = {"A2A-Version": "1.0"}
    context = "response-bytes"
    for number in range(3):
        task = echo(f"a{number}", inputs={"text": "x" * LARGE})
        message = {
            "messageId": f"m{number}",
            "role": "ROLE_USER",
            "contextId": context,
            "parts": [{"data": {"tasks": [task]}}],
        }
        server.rpc("SendMessage", {"message": message}, path="/", **headers)
    found, token = list[str](), None
    while token != "":
        asked = {"contextId": context, "includeArtifacts": True, "pageToken": token or ""}
        page = server.rpc("ListTasks", asked, path="/", **headers)
        found += [task["id"] for task in page["tasks"]]
        assert len(page["tasks"]) == 1  # its message, its inputs and its result
        token = page["nextPageToken"]
    assert len(set(found)) == 3


def test_a2a_refuses_a_task_that_is_too_large(server: Server, tree: Json) -> None:
    reply = server.call("GetTask", {"id": tree["top"]}, path="/", **{"A2A-Version": "1.0"})
    assert reply["error"]["code"] == -32602
    assert "limits.response_bytes" in str(reply["error"])


def test_each_call_on_a_websocket_has_the_limit(server: Server, tree: Json) -> None:
    with socket(server.url) as client:
        for number in range(3):
            assert "result" in asked(client, "tasks.get", {"task_id": tree["a"]}, number)
        assert too_large(asked(client, "tasks.tree", {"task_id": tree["a"]}, 4))


def asked(client: Client, method: str, params: Json, number: int) -> Json:
    client.call(method, params, id=number)
    while (message := client.next()).get("id") != number:
        pass  # events of other tests
    return message


@pytest.mark.parametrize("address", ["/ui/tasks/{}", "/ui/panel/{}", "/ui/head/{}", "/ui/growth/{}", "/ui/tasks/"])
@pytest.mark.parametrize("name", ["top", "all", "a"])
def test_pages_show_what_fits(server: Server, tree: Json, address: str, name: str) -> None:
    page = server.http.get(address.format(tree[name]), headers={"Accept": "text/html"})
    assert page.status_code == 200
    has_inputs = address in ("/ui/tasks/{}", "/ui/panel/{}")
    assert ("resolved inputs are too large" in page.text) == (name == "all" and has_inputs)
