"""The first page, as HTTP and in a browser: what failed by cause, retried with a corrected input, and whose it is."""

import re
from collections.abc import Iterator
from string import ascii_lowercase
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.admin.conftest import csrf_token
from tests.browser import new_page
from tests.dashboard.browsing import SCHEMES, barriers
from tests.dashboard.conftest import As
from tests.dashboard.test_pages import page, post
from tests.servers import Server, until

Json = dict[str, Any]
KEY = "a-secret-key-of-the-tests"
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "rows": {"type": "object", "title": "Rows"},
        "limit": {"type": "integer", "title": "Limit", "default": 10},
        "key": {"type": "string", "title": "Key", "writeOnly": True},
    },
    "required": ["rows"],
}


@pytest.fixture(scope="session")
def _letters() -> Iterator[str]:
    return iter(ascii_lowercase)


@pytest.fixture
def name(server: Server, _letters: Iterator[str]) -> str:
    """The name of a flow whose runs fail, for a cause of their own, unless their input `rows` has the field of the flow."""
    name = f"home-{next(_letters)}"
    echo = {"schemas": {"method": "echo_executor"}}
    given = {"limit": "{{run.inputs.limit}}"}
    used = {"n": f"{{{{run.inputs.rows.{field_of(name)}}}}}"}
    tasks = [
        {"id": "all", "name": "Figures", "dependencies": ["use"], "schemas": {"method": "aggregate_results_executor"}},
        {"id": "fetch", "name": "Fetch", "parent_id": "all", "inputs": given, **echo},
        {"id": "use", "name": "Use", "parent_id": "all", "dependencies": ["fetch"], "inputs": used, **echo},
    ]
    server.rpc("flows.save", {"name": name, "tasks": tasks, "inputs_schema": SCHEMA})
    return name


def field_of(name: str) -> str:
    return f"field_{name[-1]}"


def ran(server: Server, name: str, **inputs: Any) -> Json:
    given = {"rows": {}, "key": KEY} | inputs
    answer: Json = server.rpc("flows.run", {"name": name, "inputs": given, "wait": True})
    return answer


def group_of(server: Server, name: str) -> Json:
    """The group that has failed runs of the flow."""
    failures = server.rpc("home.get", {"since": "1h"})["failures"]
    found: Json = next(each for each in failures if name in (share["name"] for share in each["flows"]))
    return found


def statuses(server: Server, name: str) -> list[str]:
    return sorted(run["status"] for run in server.rpc("runs.list", {"flow": name})["runs"])


def sent(server: Server, path: str, **fields: str) -> httpx.Response:
    """Post a form of the page that is open at the path, with its hidden fields."""
    shown = server.http.get(path).text
    form = shown[shown.index('action="/ui/retry/"') :].partition("</form>")[0]
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    return server.http.post("/ui/retry/", data=hidden | fields)


def test_a_cause_is_shown_with_its_flows_and_retried_with_a_corrected_input(server: Server, name: str) -> None:
    for rows in ({}, {}, {"other": 1}):
        ran(server, name, rows=rows)
    group = group_of(server, name)
    assert (group["runs"], group["state"]) == (3, "failing")
    assert [(share["name"], share["runs"]) for share in group["flows"]] == [(name, 3)]
    path = f"/?since=1h&group={group['key']}"
    shown = server.http.get(path).text
    assert f"{name}" in shown and "Retry 3 runs" in shown and "Try one first" in shown
    assert "was {} in 2, {&quot;other&quot;:1} in 1" in shown and "was 10 in all" in shown
    assert KEY not in shown and "sealed" not in shown
    wrong = sent(server, path, **{"in.limit": "many", "in.rows": '{"x": 1}', "then": "all"})
    assert (wrong.status_code, "This must be a number" in wrong.text, "x&quot;: 1" in wrong.text) == (422, True, True)
    assert statuses(server, name) == ["failed"] * 3
    moved = sent(server, path, **{"in.rows": f'{{"{field_of(name)}": 7}}', "then": "one"})
    assert moved.status_code == 302 and moved.headers["Location"] == path
    until(
        lambda: statuses(server, name) == ["completed", "failed", "failed", "failed"], seconds=20, what="a retried run"
    )
    assert "Retry 2 runs" in server.http.get(path).text
    done = sent(server, path, **{"in.rows": f'{{"{field_of(name)}": 7}}', "then": "all"})
    assert done.headers["Location"] == "/?since=1h&group="
    assert "2 runs were retried." in server.http.get(done.headers["Location"]).text
    until(lambda: statuses(server, name) == ["completed"] * 3 + ["failed"] * 3, seconds=20, what="all retried runs")
    newest = server.rpc("runs.list", {"flow": name, "status": "completed"})["runs"][0]
    assert server.rpc("runs.get", {"run_id": newest["id"]})["inputs"]["limit"] == 10  # as it was
    assert group_of(server, name)["state"] == "over"
    assert "All of these trees have run again" in server.http.get(path).text


def test_what_cannot_be_is_refused_and_old_addresses_lead_to_the_list(server: Server, name: str) -> None:
    for since in ("2h", "2999-01-01T00:00", "odd"):
        assert server.http.get(f"/?since={since}").status_code == 400
    moved = server.http.get("/?q=x&status=failed")
    assert (moved.status_code, moved.headers["Location"]) == (302, "/ui/tasks/?q=x&status=failed")
    token = csrf_token(server.http.get("/ui/settings/").text)
    for path in ("/ui/seen/", "/ui/retry/"):
        assert server.http.post(path, data={"csrfmiddlewaretoken": token, "until": "odd"}).status_code == 400
        assert server.http.post(path, data={"until": "2026-01-01"}).status_code == 403
        assert server.http.get(path).status_code == 405


FAILS = '[{"name": "Of alice", "schemas": {"method": "rest_executor"}, "inputs": {"url": "http://127.0.0.1:9/"}}]'


def test_each_user_sees_and_retries_their_own_and_marks_it_as_seen(as_: As, guarded: Server) -> None:
    alice, bob, vera = as_("alice"), as_("bob"), as_("vera")
    assert post(alice, "/ui/new/tree/", tree=FAILS, then="run").status_code == 302
    until(lambda: "failed</h1>" in page(alice, "/") or "failed, for" in page(alice, "/"), seconds=20, what="a failure")
    home = page(alice, "/")
    key, *_ = re.findall(r'id="group-([0-9a-f]{16})"', home)
    own = {"group": key, "from": "2026-01-01T00:00", "until": "2999-01-01T00:00", "then": "all"}
    before = alice.get("/ui/runs/").text.count("/ui/runs/0")
    assert key not in page(bob, "/") and key not in page(bob, f"/?group={key}") and key in page(as_("root"), "/")
    assert "No run was retried." in bob.get(post(bob, "/ui/retry/", **own).headers["Location"]).text
    assert post(vera, "/ui/retry/", **own).status_code == 403
    assert alice.get("/ui/runs/").text.count("/ui/runs/0") == before
    seen = re.findall(r'name="until" value="([^"]+)"', home)[0]
    assert post(alice, "/ui/seen/", until=seen).status_code == 302
    assert "your last visit" in page(alice, "/") and key not in page(alice, "/")
    assert key in page(alice, "/?since=1h") and "your last visit" not in page(bob, "/")
    assert post(vera, "/ui/seen/", until=seen).status_code == 302  # a viewer has visits, too


def test_home_is_read_and_a_cause_retried_by_keys_in_light_and_dark(home: Page, server: Server, name: str) -> None:
    ran(server, name)
    ran(server, name)
    home.goto(f"{server.url}/?since=1h")
    expect(home.get_by_role("heading", level=1)).to_contain_text("failed")
    of_flow = home.get_by_role("listitem").filter(has=home.get_by_role("link", name=f"{name} 2"))
    of_flow.get_by_role("link", name="Retry all 2").focus()
    home.keyboard.press("Enter")
    expect(home.get_by_label("Rows")).to_be_visible()
    for scheme in SCHEMES:
        assert barriers(home, scheme) == []
    home.get_by_label("Rows").fill(f'{{"{field_of(name)}": 1}}')
    home.get_by_role("button", name="Retry 2 runs").focus()
    home.keyboard.press("Enter")
    expect(home.locator(".messages")).to_contain_text("2 runs were retried.")
    expect(of_flow).to_contain_text("completes again")  # without a reload


@pytest.mark.parametrize("width", [320, 390, 720, 1440])
def test_home_fits_every_screen(width: int, browser: Browser, server: Server, name: str) -> None:
    ran(server, name)
    key = group_of(server, name)["key"]
    with new_page(browser, viewport={"width": width, "height": 800}) as window:
        window.goto(f"{server.url}/?since=24h&group={key}")
        expect(window.get_by_role("button", name="Retry the run")).to_be_visible()
        assert window.evaluate("document.documentElement.scrollWidth") <= width
        assert barriers(window, "light") == []
