"""The pages of flows, as HTTP and in a browser: the list, the grid, the forms, and whose they are."""

import os
import re
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.admin.conftest import csrf_token
from tests.dashboard.conftest import As, Make, step
from tests.dashboard.test_pages import post
from tests.servers import Server, until

Json = dict[str, Any]
TASKS: list[Json] = [
    {"id": "tea", "name": "Tea", "dependencies": ["brew"], "schemas": {"method": "aggregate_results_executor"}},
    {
        "id": "brew",
        "name": "Brew",
        "parent_id": "tea",
        "schemas": {"method": "scripted_executor"},
        "inputs": {"then": "{{run.inputs.then}}", "topic": "{{run.inputs.topic}}"},
    },
]
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "title": "Topic"},
        "n": {"type": "integer", "default": 3},
        "then": {"type": "string", "default": "ok"},
    },
    "required": ["topic"],
}


@pytest.fixture(scope="session")
def _names() -> Iterator[str]:
    return (f"page-{number}" for number in count())


@pytest.fixture
def name(server: Server, _names: Iterator[str]) -> str:
    """The name of a flow that is saved."""
    name = next(_names)
    server.rpc("flows.save", {"name": name, "tasks": TASKS, "inputs_schema": SCHEMA, "description": "Makes tea."})
    return name


def ran(server: Server, name: str, **inputs: Any) -> Json:
    answer: Json = server.rpc("flows.run", {"name": name, "inputs": {"topic": "x"} | inputs, "wait": True})
    return answer


def sent(http: httpx.Client, path: str, **fields: str) -> httpx.Response:
    token = csrf_token(http.get("/ui/settings/").text)
    return http.post(path, data={"csrfmiddlewaretoken": token, **fields})


def test_the_list_shows_the_latest_runs_and_how_they_ended(server: Server, name: str) -> None:
    for then in ("ok", "fail", "ok"):
        ran(server, name, then=then)
    page = server.http.get("/ui/flows/").text
    row = page[page.index(f'href="/ui/flows/{name}/"') :].partition("</tr>")[0]
    squares = re.findall(r'class="square (\w+)"', row)
    assert squares == ["completed", "failed", "completed"]
    assert "67 %" in row and "Makes tea." in row


def test_the_grid_has_a_row_for_each_task_and_a_column_for_each_run(server: Server, name: str) -> None:
    first = ran(server, name)
    changed = [*TASKS, {"id": "pour", "name": "Pour", "parent_id": "tea"}]
    server.rpc("flows.save", {"name": name, "tasks": changed, "inputs_schema": SCHEMA})
    second = ran(server, name)
    page = server.http.get(f"/ui/flows/{name}/").text
    grid = page.partition("<table")[2].partition("</table>")[0]
    rows = grid.split("<tr>")[2:]
    assert [re.search(r'<th scope="row"[^>]*>(\w+)<', row)[1] for row in rows] == ["tea", "brew", "pour"]  # type: ignore[index]
    cells = [re.findall(r'href="/ui/tasks/([^"]+)"', row) for row in rows]
    assert cells[1] == [first["ids"]["brew"], second["ids"]["brew"]]
    assert cells[2] == [second["ids"]["pour"]]
    assert "Task <code>pour</code> added" in page
    assert "Description changed" in page
    older = server.http.get(f"/ui/flows/{name}/", params={"version": 1}).text
    assert "Version 1 of 2" in older and "Makes tea." in older
    assert server.http.get(f"/ui/flows/{name}/", params={"version": 3}).status_code == 404


def test_a_tree_that_ran_again_is_one_column_and_stays_of_its_flow(server: Server, name: str) -> None:
    failed = ran(server, name, then="fail")
    again = server.rpc("tasks.execute", {"task_id": failed["task_id"], "wait": True})
    assert again["task_id"] == failed["task_id"]
    assert server.rpc("tasks.detail", {"task_id": failed["task_id"]})["flow"] == {"name": name, "version": 1}
    page = server.http.get(f"/ui/flows/{name}/").text
    assert page.count('<a class="run ') == 1


def test_the_form_is_made_of_the_schema_and_keeps_what_was_typed(server: Server, name: str) -> None:
    path = f"/ui/flows/{name}/run/"
    form = server.http.get(path).text
    assert 'name="in.topic"' in form and 'name="in.n" value="3"' in form
    assert 'name="in."' not in form  # the schema has no other inputs
    wrong = sent(server.http, path, **{"in.topic": "typed", "in.n": "three"})
    assert (wrong.status_code, "This must be a number" in wrong.text, 'value="typed"' in wrong.text) == (
        422,
        True,
        True,
    )
    missing = sent(server.http, path, **{"in.n": "4"})
    assert (missing.status_code, "is required" in missing.text) == (422, True)
    started = sent(server.http, path, **{"in.topic": "green", "in.n": "4"})
    assert started.status_code == 302
    task_id = started.headers["Location"].removeprefix("/ui/tasks/")
    assert server.rpc("tasks.detail", {"task_id": task_id})["flow"] == {"name": name, "version": 1}


def test_a_run_of_a_flow_is_corrected_in_the_form_of_the_flow(server: Server, name: str) -> None:
    failed = ran(server, name, topic="green", then="fail")
    path = f"/ui/run-with/{failed['task_id']}"
    form = server.http.get(path).text
    assert 'name="in.topic" value="green"' in form and 'name="in.n" value="3"' in form  # the values of that run
    assert 'name="in."' not in form
    wrong = sent(server.http, path, **{"in.topic": "green", "in.n": "three", "in.then": "ok"})
    assert (wrong.status_code, "This must be a number" in wrong.text) == (422, True)
    missing = sent(server.http, path, **{"in.then": "ok"})
    assert (missing.status_code, "is required" in missing.text, 'class="field wrong"' in missing.text) == (422, True, True)  # fmt: skip
    moved = sent(server.http, path, **{"in.topic": "black", "in.n": "4", "in.then": "ok"})
    assert (moved.status_code, moved.headers["Location"]) == (302, f"/ui/tasks/{failed['task_id']}")
    newest = server.rpc("runs.list", {"task_id": failed["task_id"]})["runs"][0]
    inputs = server.rpc("runs.get", {"run_id": newest["id"]})["inputs"]
    assert (newest["number"], inputs) == (2, {"topic": "black", "n": 4, "then": "ok"})


def test_flows_are_searched_by_name_and_run_from_the_list(server: Server, name: str) -> None:
    found = server.http.get("/ui/flows/", params={"q": name.upper()}).text
    shown = re.findall(r'class="main" href="/ui/flows/([^/]+)/"', found)
    assert name in shown and all(name in each for each in shown) and f'href="/ui/flows/{name}/run/"' in found
    assert "No flow has “&lt;none” in its name" in server.http.get("/ui/flows/", params={"q": "<none"}).text


def test_a_tree_becomes_a_flow_and_runs_with_inputs(server: Server, make: Make, _names: Iterator[str]) -> None:
    root = {"id": "root", "name": "Say it", "dependencies": ["a"], "schemas": {"method": "aggregate_results_executor"}}
    prefix = make(root, step("a", words="{{run.inputs.words}}"))
    form = server.http.get(f"/ui/save-flow/{prefix}-root").text
    assert 'value="say-it"' in form and "words" in form
    name = next(_names)
    path = f"/ui/save-flow/{prefix}-root"
    refused = sent(server.http, path, name="a b", description="", inputs_schema="{")
    assert refused.status_code == 422
    saved = sent(server.http, path, name=name, description="Says it.", inputs_schema='{"properties": {"words": {}}}')
    assert (saved.status_code, saved.headers["Location"]) == (302, f"/ui/flows/{name}/")
    assert [task["name"] for task in server.rpc("flows.get", {"name": name})["tasks"]] == ["Say it", "Step a"]
    path = f"/ui/run-with/{prefix}-root"
    assert "words" in server.http.get(path).text
    assert sent(server.http, path, **{"in.": "[]"}).status_code == 422
    first = sent(server.http, path, **{"in.": '{"words": "hello"}'}).headers["Location"]
    assert first == f"/ui/tasks/{prefix}-root"
    until(
        lambda: server.rpc("tasks.get", {"task_id": f"{prefix}-root"})["status"] == "completed",
        seconds=60,
        what="the end",
    )
    assert "hello" in server.http.get(path).text  # what the latest run had
    copy = sent(server.http, path, **{"in.": '{"words": "again"}'}).headers["Location"]
    assert copy != first


def test_a_flow_is_deleted_and_its_runs_stay(server: Server, name: str) -> None:
    task_id = ran(server, name)["task_id"]
    gone = sent(server.http, f"/ui/flows/{name}/delete/")
    assert (gone.status_code, gone.headers["Location"]) == (302, "/ui/flows/")
    assert server.http.get(f"/ui/flows/{name}/").status_code == 404
    panel = server.http.get(f"/ui/panel/{task_id}").text
    assert "deleted" in panel and "version 1" in panel


def test_a_flow_is_paused_and_resumed_on_its_page(server: Server, name: str) -> None:
    address = f"/ui/flows/{name}/"
    assert "Pause this flow?" in server.http.get(address).text
    assert sent(server.http, f"{address}pause/").headers["Location"] == address
    page = server.http.get(address).text
    assert "Resume this flow?" in page and "No task waits." in page
    assert re.search(r"Paused by \S+ since \d+ \w+ 20\d\d", page)
    assert f"Paused: flow {name}" in server.http.get("/ui/workers/").text
    assert sent(server.http, f"{address}resume/").headers["Location"] == address
    assert "Pause this flow?" in server.http.get(address).text


def test_credentials_of_a_definition_are_masked(server: Server, _names: Iterator[str]) -> None:
    name = next(_names)
    inputs = {"url": "https://a.example", "headers": {"Authorization": "Bearer canary"}, "auth": {"bearer": "canary"}}
    task = {"id": "call", "name": "Call", "schemas": {"method": "rest_executor"}, "inputs": inputs}
    own = {"id": "own", "name": "echo_executor", "parent_id": "call", "inputs": {"text": "canary"}}
    own["schemas"] = {"input_schema": {"properties": {"text": {"writeOnly": True}}}}
    server.rpc("flows.save", {"name": name, "tasks": [task, own]})
    assert "canary" not in server.http.get(f"/ui/flows/{name}/").text


def test_texts_of_a_definition_are_escaped(server: Server, _names: Iterator[str]) -> None:
    name, bad = next(_names), """<script>alert("x")</script>'&"""
    task = {"id": bad, "name": bad, "schemas": {"method": "echo_executor"}}
    schema = {"properties": {bad: {"title": bad, "description": bad, "default": bad}}}
    server.rpc("flows.save", {"name": name, "tasks": task, "inputs_schema": schema, "description": bad})
    server.rpc(
        "flows.save", {"name": name, "tasks": task | {"priority": 1}, "inputs_schema": schema, "description": ""}
    )
    server.rpc("flows.run", {"name": name, "wait": True})
    for path in ("/ui/flows/", f"/ui/flows/{name}/", f"/ui/flows/{name}/?version=1", f"/ui/flows/{name}/run/"):
        page = server.http.get(path).text
        assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 3


def test_flows_of_others_look_like_none(as_: As) -> None:
    tree = '[{"name": "Of alice", "schemas": {"method": "echo_executor"}}]'
    task_id = post(as_("alice"), "/ui/new/tree/", tree=tree, then="store").headers["Location"].rpartition("/")[2]
    path = f"/ui/save-flow/{quote(task_id, safe='')}"
    assert post(as_("alice"), path, name="of-alice", description="", inputs_schema="").status_code == 302
    for who, code in (("alice", 200), ("root", 200), ("bob", 404), ("vera", 404)):
        seen = as_(who).get("/ui/flows/of-alice/", params={} if who == "alice" else {"user": "alice"})
        assert seen.status_code == code, who
    stranger = [as_("bob").get(f"/ui/flows/{name}/?user=alice").text for name in ("of-alice", "no-flower")]
    assert stranger[0].replace("of-alice", "*") == stranger[1].replace("no-flower", "*")
    assert "of-alice" not in as_("bob").get("/ui/flows/").text
    assert "of-alice" in as_("root").get("/ui/flows/").text
    assert as_("bob").get(path).status_code == 404
    for action in ("run", "delete", "pause", "resume"):
        assert post(as_("bob"), f"/ui/flows/of-alice/{action}/?user=alice").status_code == 404
        assert post(as_("vera"), f"/ui/flows/of-alice/{action}/").status_code == 403
    assert post(as_("root"), "/ui/flows/of-alice/delete/?user=alice").status_code == 302


def test_a_person_runs_a_flow_and_walks_through_its_grid(page: Page, server: Server, name: str) -> None:
    ran(server, name, then="fail")
    page.goto(f"{server.url}/ui/flows/")
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("link", name="Run with…").click()
    page.get_by_label("Topic").fill("oolong")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".messages")).to_contain_text(f"A run of {name}, version 1, was submitted.")
    expect(page.locator("[data-tree-status]")).to_have_text("completed")
    page.goto(f"{server.url}/ui/flows/{name}/")
    cells = page.locator("[data-grid] tbody a")
    expect(cells).to_have_count(4)
    expect(page.locator("[data-grid] a[tabindex='0']")).to_have_count(1)
    page.locator("[data-grid] thead a").last.focus()
    page.keyboard.press("ArrowDown")
    expect(cells.nth(1)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    expect(cells.nth(2)).to_be_focused()
    expect(cells.nth(2)).to_have_accessible_name(re.compile("failed"))
    page.keyboard.press("End")
    expect(cells.nth(3)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/ui/tasks/"))


# --- labels ---


def test_a_label_is_set_moved_and_undone_by_keyboard(page: Page, server: Server, name: str) -> None:
    server.rpc(
        "flows.save", {"name": name, "tasks": TASKS, "inputs_schema": SCHEMA, "description": "Makes better tea."}
    )
    page.goto(f"{server.url}/ui/flows/{name}/")
    row = page.locator("section[aria-labelledby=labels] tbody tr")

    def fill(label: str, version: str, shares: str = "", reason: str = "first") -> None:
        page.get_by_role("combobox", name="Label").focus()
        for text in (label, version, shares, reason):
            page.keyboard.type(text)
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")

    fill("candidate", "2")
    expect(row).to_contain_text([f"{name}@candidate"])
    fill("production", "1", "candidate=10", "better")
    expect(row.nth(1)).to_contain_text("10 % get candidate")
    fill("production", "9")
    expect(page.locator(".messages")).to_contain_text("has no version 9")
    fill("production", "2")
    expect(row.nth(1)).to_contain_text("Version 2")
    if shot := os.environ.get("SHOT"):
        page.screenshot(path=shot, full_page=True)
    page.get_by_role("combobox", name="Label").fill("production")
    page.get_by_role("textbox", name="Reason").fill("worse")
    page.get_by_role("button", name="Undo its last move").press("Enter")
    expect(row.nth(1)).to_contain_text("Version 1")
    answer = server.rpc(
        "flows.run", {"name": f"{name}@production", "inputs": {"topic": "x"}, "share_key": "a", "wait": True}
    )
    (run,) = server.rpc("runs.list", {"task_id": answer["task_id"]})["runs"]
    server.rpc("feedback.set", {"run_id": run["id"], "score": False, "note": "too cold"})
    for path in (f"/ui/runs/{run['id']}/", f"/ui/trace/{answer['task_id']}"):
        page.goto(f"{server.url}{path}")
        expect(page.locator("section[aria-labelledby=scores]")).to_contain_text("too cold")
        expect(page.locator("body")).to_contain_text("by the label production")
        if shot:
            page.screenshot(path=f"{shot}{path.split('/')[2]}.png", full_page=True)
    server.rpc("flows.delete", {"name": name})
