"""REST against a real server: what each operation answers, how it refuses, and that nobody sees another's tasks."""

from base64 import urlsafe_b64encode
from itertools import count
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from a2a.rest.operations import ROUTES
from tests.accounts.conftest import minted
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
JSON: Final = {"Content-Type": "application/json"}
NUMBERS: Final = count(1)
SLOW: Final = {"name": "Slow", "schemas": {"method": "scripted_executor"}, "inputs": {"seconds": 60}}
OPERATIONS: Final = [
    (method, "/api/" + route.replace("<task_id>", "{}").replace("<name>", "token"))
    for route, operations in ROUTES.items()
    for method in operations
]
ABOUT_ONE_TASK: Final = [(method, address) for method, address in OPERATIONS if "{}" in address]


@pytest.fixture(scope="module")
def server(open_server: Server) -> Server:
    return open_server


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return server.http


def fresh(name: str = "task") -> str:
    """An id that no other test uses."""
    return f"{name}-{next(NUMBERS)}"


def create(http: httpx.Client, *tasks: Json, **more: Any) -> Json:
    response = http.post("/api/tasks/", json={"tasks": list(tasks), **more})
    assert response.status_code == 201, response.text
    return dict(response.json())


def family(http: httpx.Client) -> tuple[str, str]:
    """The ids of a stored root and its child."""
    root, child = fresh("root"), fresh("child")
    create(http, {"id": root, "name": "Root"}, {"id": child, "name": "Child", "parent_id": root, "inputs": {"x": 1}})
    return root, child


def ended(http: httpx.Client) -> str:
    """A task that has run to its end."""
    task_id = create(http, {"id": fresh(), "name": "group", "inputs": {"x": 1}})["id"]
    assert http.post(f"/api/tasks/{task_id}/execute", json={"wait": True}).json()["status"] == "completed"
    return str(task_id)


def error_of(response: httpx.Response) -> Json:
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    return dict(body["error"])


# --- what the operations do ---


@pytest.mark.parametrize("wrap", [lambda task: task, lambda task: [task], lambda task: {"tasks": [task]}])
def test_what_is_created_is_answered_with_its_ids_and_found_again(http: httpx.Client, wrap: Any) -> None:
    task_id = fresh()
    response = http.post("/api/tasks/", json=wrap({"id": task_id, "name": "one", "inputs": {"x": 1}}))
    assert response.status_code == 201
    created = response.json()
    assert (created["ids"], created["children"], created["status"]) == ({task_id: task_id}, [], "pending")
    found = http.get(f"/api/tasks/{task_id}/").json()
    assert found.pop("run_status") is None
    assert created == found | {name: created[name] for name in ("children", "ids", "warnings")}


def test_every_door_shows_the_same_task(server: Server, http: httpx.Client) -> None:
    root, child = family(http)
    assert http.get(f"/api/tasks/{root}/").json() == server.rpc("tasks.get", {"task_id": root})
    assert http.get(f"/api/tasks/{child}/tree").json() == server.rpc("tasks.tree", {"task_id": root})
    assert http.get(f"/api/tasks/{root}/children").json() == server.rpc("tasks.children", {"task_id": root})
    assert http.get(f"/api/tasks/{child}/detail").json() == server.rpc("tasks.detail", {"task_id": child})
    assert http.get("/api/executors/").json() == server.rpc("system.executors", {}, path="/system")


def test_a_task_that_is_created_to_run_runs(http: httpx.Client) -> None:
    task_id = create(http, {"name": "group"}, execute=True)["id"]
    assert http.post(f"/api/tasks/{task_id}/execute", json={"wait": True}).json()["task"]["status"] == "completed"


def test_an_execution_goes_on_behind_202_and_is_over_with_200(http: httpx.Client) -> None:
    task_id = create(http, SLOW)["id"]
    for status in ("started", "already_running"):
        response = http.post(f"/api/tasks/{task_id}/execute")
        assert (response.status_code, response.json()["status"]) == (202, status)
    waited = http.post(f"/api/tasks/{task_id}/execute", json={"wait": True, "wait_timeout_seconds": 0})
    assert (waited.status_code, waited.json()["status"]) == (202, "already_running")
    cancelled = http.post(f"/api/tasks/{task_id}/cancel", json={"error_message": "not now"})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert http.get(f"/api/tasks/{task_id}/").json()["error"] == "not now"
    over = http.post(f"/api/tasks/{ended(http)}/execute", json={"wait": True})
    assert (over.status_code, over.json()["task"]["result"]) == (200, {"x": 1})


def test_a_copy_runs_in_place_of_the_task(http: httpx.Client) -> None:
    task_id = ended(http)
    response = http.post(f"/api/tasks/{task_id}/execute", json={"copy_execution": True, "wait": True})
    assert (response.status_code, response.json()["original_task_id"]) == (200, task_id)
    assert response.json()["task_id"] != task_id


def test_a_copy_is_created_or_only_shown(http: httpx.Client) -> None:
    root, child = family(http)
    copy = http.post(f"/api/tasks/{root}/copy")
    assert (copy.status_code, copy.json()["original_task_id"], copy.json()["ids"].keys()) == (201, root, {root, child})
    shown = http.post(f"/api/tasks/{root}/copy", json={"save": False})
    assert (shown.status_code, [task["name"] for task in shown.json()]) == (200, ["Root", "Child"])


def test_a_pending_task_is_changed_in_what_was_sent(http: httpx.Client) -> None:
    _, child = family(http)
    response = http.patch(f"/api/tasks/{child}/", json={"name": "New", "priority": 0, "params": None})
    assert response.status_code == 200
    changed = response.json()
    assert (changed["name"], changed["priority"], changed["inputs"]) == ("New", 0, {"x": 1})
    assert http.get(f"/api/tasks/{child}/").json() == changed


def test_what_is_deleted_is_gone_with_all_below_it(http: httpx.Client) -> None:
    root, child = family(http)
    assert http.delete(f"/api/tasks/{root}/").json() == {
        "success": True,
        "task_id": root,
        "deleted_count": 2,
        "children_deleted": 1,
    }
    assert {http.get(f"/api/tasks/{each}/").status_code for each in (root, child)} == {404}
    finished = ended(http)
    assert http.delete(f"/api/tasks/{finished}/?force=true").status_code == 200


def test_a_list_is_filtered(http: httpx.Client) -> None:
    mark = fresh("mark")
    first = create(http, {"name": mark})["id"]
    second = create(http, {"id": fresh(), "name": mark}, execute=True)["id"]
    http.post(f"/api/tasks/{second}/execute", json={"wait": True})
    child_of = fresh()
    create(http, {"id": child_of, "name": "other"}, {"name": mark, "parent_id": child_of})

    def names(**query: Any) -> list[str]:
        return [task["id"] for task in http.get("/api/tasks/", params={"name": mark, **query}).json()["tasks"]]

    assert names() == [second, first]
    assert names(order="created_at") == [first, second]
    assert names(status="completed") == [second]
    assert names(status=["completed", "pending"]) == [second, first]
    assert len(names(root_only="false")) == 3
    assert names(user_id="local") == [second, first]
    assert names(user_id="nobody") == []


def test_pages_follow_each_other_without_gap_or_repetition(http: httpx.Client) -> None:
    mark = fresh("page")
    created = [create(http, {"name": mark})["id"] for _ in range(5)]
    seen, cursor, sizes = [], "", []
    while cursor is not None:
        page = http.get("/api/tasks/", params={"name": mark, "limit": 2, "cursor": cursor}).json()
        seen += [task["id"] for task in page["tasks"]]
        sizes.append(len(page["tasks"]))
        cursor = page["next_cursor"]
    assert (seen, sizes) == (created[::-1], [2, 2, 1])


def test_the_events_of_a_run_are_those_of_the_other_address(server: Server, http: httpx.Client) -> None:
    task_id = ended(http)
    response = http.get(f"/api/tasks/{task_id}/events", headers={"Accept": "text/event-stream"})
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.content == http.get(f"/tasks/{task_id}/events").content
    assert b'"type":"final"' in response.content
    last = response.text.count("data: ")
    assert http.get(f"/api/tasks/{task_id}/events", headers={"Last-Event-ID": f"{last}"}).status_code == 204


def test_a_request_with_a_key_is_carried_out_once(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": fresh("key")}
    first, again = (http.post("/api/tasks/", json={"name": "once"}, headers=headers) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    other = http.post("/api/tasks/", json={"name": "twice"}, headers=headers)
    assert (other.status_code, error_of(other)["code"]) == (400, "invalid_params")


# --- what is in an address ---


@pytest.mark.parametrize(
    "odd",
    [
        "a/b",
        "a/tree",
        "execute/",
        "/",
        "ä b",
        "a\nb",
        "%2F",
        "a?b#c",
        "a;b,c",
        "'\"\\",
        "+",
        "*",
        "🙂",
        "a..",
        "x" * 240,
    ],
)
def test_an_id_may_hold_any_character(http: httpx.Client, odd: str) -> None:
    task_id = fresh(odd)[::-1] if odd == "/" else f"{odd}{fresh()}"
    create(http, {"id": task_id, "name": "odd"})
    address = f"/api/tasks/{quote(task_id, safe='')}"
    for path in (address, f"{address}/", f"{address}/tree", f"{address}/tree/"):
        assert http.get(path).json()["id"] == task_id
    assert http.post(f"{address}/execute", json={"wait": True}).json()["task_id"] == task_id
    assert http.get(f"{address}/events").status_code == 200
    assert http.get(f"/tasks/{quote(task_id, safe='')}/events").status_code == 200


@pytest.mark.parametrize(
    "path", ["/api/tasks/%00/", "/api/tasks/a%00b/events", f"/api/tasks/{'x' * 256}/", "/api/tasks/?name=%00"]
)
def test_text_that_no_task_can_have_is_refused(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_params")


@pytest.mark.parametrize(
    "path", ["/api/", "/api/nothing", "/api/tasks//", "/api/tasks/%FF/", "/api/tasks/a/nothing", "/api"]
)
def test_where_nothing_is_the_answer_says_so(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


# --- what is refused ---


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        ("GET", "/api/tasks/?limit=0", None, 400, "invalid_params", "limit"),
        ("GET", "/api/tasks/?limit=ten", None, 400, "invalid_params", "limit"),
        ("GET", "/api/tasks/?limit=1&limit=2", None, 400, "invalid_params", "limit"),
        ("GET", f"/api/tasks/?limit={'9' * 40}", None, 400, "invalid_params", "limit"),
        ("GET", "/api/tasks/?root_only=1", None, 400, "invalid_params", "root_only"),
        ("GET", "/api/tasks/?status=done", None, 400, "invalid_params", "status"),
        ("GET", "/api/tasks/?order=name", None, 400, "invalid_params", "order"),
        ("GET", "/api/tasks/?cursor=x", None, 400, "invalid_params", "cursor"),
        ("GET", "/api/tasks/?cursor=%C2%B5", None, 400, "invalid_params", "cursor"),
        ("GET", "/api/tasks/?offset=1", None, 400, "invalid_params", "offset"),
        ("GET", "/api/tasks/?" + "a=1&" * 1001, None, 400, "invalid_params", "a"),
        ("GET", "/api/tasks/none/?task_id=x", None, 400, "invalid_params", "task_id"),
        ("POST", "/api/tasks/?execute=true", {"name": "a"}, 400, "invalid_params", "execute"),
        ("POST", "/api/tasks/", {}, 400, "invalid_params", "tasks"),
        ("POST", "/api/tasks/", "a", 400, "invalid_params", "params"),
        ("POST", "/api/tasks/", {"name": ""}, 400, "invalid_params", "tasks[0].name"),
        ("POST", "/api/tasks/", {"tasks": {"name": "a"}, "excute": True}, 400, "invalid_params", "excute"),
        ("POST", "/api/tasks/", [], 422, "invalid_tree", None),
        ("POST", "/api/tasks/", [{"name": "a"}, {"name": "b"}], 422, "invalid_tree", None),
        ("POST", "/api/tasks/", {"name": "a", "parent_id": "none"}, 422, "invalid_parent", None),
        ("POST", "/api/tasks/", {"name": "a", "dependencies": ["none"]}, 422, "invalid_dependency", None),
        ("POST", "/api/tasks/", {"id": "a", "name": "a", "parent_id": "a"}, 422, "circular_dependency", None),
        ("POST", "/api/tasks/", {"name": "a", "schemas": {"method": "none"}}, 422, "executor_not_found", None),
        ("GET", "/api/tasks/none/", None, 404, "task_not_found", None),
        ("PATCH", "/api/tasks/none/", {"name": "a"}, 404, "task_not_found", None),
        ("PATCH", "/api/tasks/none/", {}, 400, "invalid_params", "params"),
        ("PATCH", "/api/tasks/none/", {"status": "completed"}, 400, "invalid_params", "status"),
        ("PATCH", "/api/tasks/none/", {"task_id": "a"}, 400, "invalid_params", "task_id"),
        ("PATCH", "/api/tasks/none/", [], 400, "invalid_params", "params"),
        ("DELETE", "/api/tasks/none/?force=yes", None, 400, "invalid_params", "force"),
        ("POST", "/api/tasks/none/execute", {"tasks": []}, 400, "invalid_params", "tasks"),
        ("POST", "/api/tasks/none/execute", {"use_streaming": True}, 400, "invalid_params", "use_streaming"),
        ("POST", "/api/tasks/none/execute", {"copy_children": True}, 400, "invalid_params", "copy_children"),
        ("POST", "/api/tasks/none/execute", None, 404, "task_not_found", None),
        ("POST", "/api/tasks/none/cancel", None, 404, "task_not_found", None),
        ("POST", "/api/tasks/none/cancel", {"task_ids": ["a"]}, 400, "invalid_params", "task_ids"),
        ("POST", "/api/tasks/none/copy", {"copy_mode": "custom"}, 400, "invalid_params", "custom_task_ids"),
        ("GET", "/api/tasks/none/events", None, 404, "task_not_found", None),
    ],
)
def test_a_mistake_is_told_by_its_name(
    http: httpx.Client, method: str, path: str, body: Any, status: int, code: str, field: str | None
) -> None:
    response = http.request(method, path, json=body) if body is not None else http.request(method, path)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (status, code)
    assert field is None or error["data"][0]["field"] == field
    assert error["message"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_json"),
        (b'{"name": "a", "name": "b"}', JSON, 400, "invalid_json"),
        (b'{"name": "\\u0000"}', JSON, 400, "invalid_json"),
        (b'{"name": NaN}', JSON, 400, "invalid_json"),
        (b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", JSON | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b" " * (10 * 2**20 + 1), JSON, 413, "too_large"),
    ],
)
@pytest.mark.parametrize("path", ["/api/tasks/", "/api/tasks/none/execute"])
def test_what_is_no_json_is_refused_as_at_every_door(
    http: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = http.post(path, content=body, headers=headers)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_a_body_that_does_not_say_its_length_is_read(http: httpx.Client) -> None:
    response = http.post("/api/tasks/", content=iter([b'{"name":', b'"streamed"}']), headers=JSON)
    assert (response.status_code, response.json()["name"]) == (201, "streamed")


def test_the_state_of_a_task_may_forbid_it(http: httpx.Client) -> None:
    task_id = ended(http)
    for response, code in [
        (http.patch(f"/api/tasks/{task_id}/", json={"name": "late"}), "status_conflict"),
        (http.post(f"/api/tasks/{task_id}/cancel"), "status_conflict"),
        (http.delete(f"/api/tasks/{task_id}/"), "cannot_delete"),
    ]:
        assert (response.status_code, error_of(response)["code"]) == (409, code)
        assert error_of(response)["data"]["task_id"] == task_id


def test_what_never_ran_has_no_events(http: httpx.Client) -> None:
    root, _ = family(http)
    response = http.get(f"/api/tasks/{root}/events")
    assert (response.status_code, error_of(response)["code"]) == (404, "not_run_yet")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/tasks/", {"GET", "HEAD", "POST"}),
        ("OPTIONS", "/api/tasks/", {"GET", "HEAD", "POST"}),
        ("POST", "/api/tasks/none/", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("GET", "/api/tasks/none/execute", {"POST"}),
        ("TRACE", "/api/executors/", {"GET", "HEAD"}),
    ],
)
def test_another_http_method_is_refused(http: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    response = http.request(method, path)
    assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "hidden", ["0001-01-01T00:00:00+23:59 a", "9999-12-31T23:59:59-23:59 a", "2026-01-01T00:00:00+00:00 a\0b"]
)
def test_a_cursor_that_a_client_made_up_breaks_nothing(http: httpx.Client, hidden: str) -> None:
    response = http.get("/api/tasks/", params={"cursor": urlsafe_b64encode(hidden.encode()).decode()})
    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_params")


# --- whose tasks they are ---


def as_(user_id: str, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {minted(sub=user_id, **claims)}"}


def answer(server: Server, method: str, address: str, headers: dict[str, str]) -> tuple[int, bytes]:
    bodies: Json = {"PATCH": {"name": "Mine now"}, "answer/": {"answer": "yes"}}
    body = bodies.get(method) or bodies.get(address.rsplit("/", 2)[-2] + "/")
    response = server.http.request(method, address, headers=headers, **({"json": body} if body else {}))
    return response.status_code, response.content


@pytest.mark.parametrize(("method", "address"), OPERATIONS)
def test_without_a_token_nothing_is_answered(auth_server: Server, method: str, address: str) -> None:
    response = auth_server.http.request(method, address.format("any"))
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert error_of(response)["code"] == "authentication_required"


@pytest.mark.parametrize(("method", "address"), ABOUT_ONE_TASK)
def test_anothers_task_is_as_one_that_is_not_there(auth_server: Server, method: str, address: str) -> None:
    task_id = fresh("alices")
    path = address.format(task_id)
    missing = answer(auth_server, method, path, as_("bob"))
    made = auth_server.http.post(
        "/api/tasks/", json={"id": task_id, "name": "hers", "user_id": "bob"}, headers=as_("alice")
    )
    assert made.json()["user_id"] == "alice"
    auth_server.http.post(f"/api/tasks/{task_id}/execute", json={"wait": True}, headers=as_("alice"))
    hers = auth_server.http.get(f"/api/tasks/{task_id}/", headers=as_("alice")).content
    assert answer(auth_server, method, path, as_("bob")) == missing
    assert missing[0] == 404
    assert auth_server.http.get(f"/api/tasks/{task_id}/", headers=as_("alice")).content == hers


def test_a_list_shows_ones_own_and_all_to_an_admin(auth_server: Server) -> None:
    mark = fresh("list")
    for name in ("alice", "bob"):
        auth_server.http.post("/api/tasks/", json={"name": mark}, headers=as_(name))

    def owners(headers: dict[str, str], **query: str) -> list[str]:
        page = auth_server.http.get("/api/tasks/", params={"name": mark, **query}, headers=headers).json()
        return sorted(task["user_id"] for task in page["tasks"])

    assert owners(as_("bob")) == ["bob"]
    assert owners(as_("bob"), user_id="alice") == []
    assert owners(as_("root", roles=["admin"])) == ["alice", "bob"]


def test_ones_own_keys_of_providers_are_stored_listed_and_deleted(auth_server: Server) -> None:
    user, key = fresh("key-owner"), "sk-of-the-rest-tests-0123456789"
    stored = auth_server.http.put("/api/llm-keys/openai/", json={"api_key": key}, headers=as_(user))
    assert stored.json() == {"success": True, "user_id": user, "provider": "openai", "last_four": "6789"}
    listed = auth_server.http.get("/api/llm-keys/", headers=as_(user))
    assert [(each["provider"], each["last_four"]) for each in listed.json()["keys"]] == [("openai", "6789")]
    assert key not in listed.text
    foreign = auth_server.http.get("/api/llm-keys/", params={"user_id": user}, headers=as_("bob"))
    assert (foreign.status_code, error_of(foreign)["code"]) == (403, "role_too_low")
    assert auth_server.http.get("/api/llm-keys/", headers=as_("bob")).json()["keys"] == []
    assert auth_server.http.delete("/api/llm-keys/openai/", headers=as_(user)).json()["deleted"] is True
    unknown = auth_server.http.put("/api/llm-keys/no-such/", json={"api_key": key}, headers=as_(user))
    assert error_of(unknown)["data"][0]["field"] == "provider"
