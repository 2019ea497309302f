"""Every page there is: no barriers, light or dark; nothing from other hosts; every control is reached by the keyboard."""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tasks.dashboard.urls import urlpatterns
from tests.browser import new_page
from tests.dashboard.browsing import SCHEMES, barriers
from tests.dashboard.conftest import step
from tests.servers import Server

Json = dict[str, Any]
PAGES: Final = {
    "home": "/?since=1h&group={group}",
    "trees": "/ui/tasks/",
    "new": "/ui/new/?executor=llm_executor",
    "new_tree": "/ui/new/tree/",
    "flows": "/ui/flows/",
    "flow": "/ui/flows/every-page/",
    "run_flow": "/ui/flows/every-page/run/",
    "datasets": "/ui/datasets/",
    "dataset": "/ui/datasets/every-page/?against=1",
    "add_rows": "/ui/datasets-add/?run={run}",
    "upload_rows": "/ui/datasets-upload/?name=every-page",
    "experiments": "/ui/experiments/",
    "experiment": "/ui/experiments/{experiment}/",
    "case": "/ui/experiments/{experiment}/1/",
    "flow_experiments": "/ui/flows/every-page/experiments/",
    "runs": "/ui/runs/",
    "selected_runs": "/ui/runs/selected/?then=delete&run={run}",
    "compare_runs": "/ui/runs/compare/?a={run}&b={other}",
    "run_page": "/ui/runs/{run}/",
    "inbox": "/ui/inbox/",
    "schedules": "/ui/schedules/",
    "new_schedule": "/ui/schedules/new/?flow=every-page",
    "schedule": "/ui/schedules/{schedule}/",
    "edit_schedule": "/ui/schedules/{schedule}/edit/",
    "hooks": "/ui/hooks/",
    "hook": "/ui/hooks/every-page/",
    "usage": "/ui/usage/",
    "executors": "/ui/executors/",
    "settings": "/ui/settings/",
    "workers": "/ui/workers/",
    "tree": "/ui/tasks/{task}",
    "log": "/ui/logs/{root}",
    "trace": "/ui/trace/{agent}",
    "run_tree": "/ui/run-with/{root}",
    "save_flow": "/ui/save-flow/{root}",
    "fork": "/ui/fork/{task}",
}
"""The pages by the names of their addresses."""
PARTS: Final = {"head", "growth", "panel", "value", "call", "preview_schedule", "file", "file_preview"}
"""Addresses that scripts of the pages load."""
POSTS: Final = {
    *(
        "run",
        "restart",
        "cancel",
        "answer",
        "delete",
        "delete_flow",
        "delete_dataset",
        "label_flow",
        "pause_flow",
        "resume_flow",
        "save_view",
        "delete_view",
    ),
    *("trigger_schedule", "pause_schedule", "resume_schedule", "delete_schedule", "backfill_schedule"),
    *("set_llm_key", "delete_llm_key", "set_secret", "delete_secret", "create_api_key", "revoke_api_key"),
    *("replay_delivery", "delete_hook"),
    *("set_notification", "test_notification", "delete_notification", "replay", "feedback", "seen", "retry_group"),
}
"""Addresses of forms."""
#: Within the grid of a flow, arrow keys move; the timeline has what the graph has.
OUT_OF_REACH: Final = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((each) => each.checkVisibility() && !each.disabled && each.tabIndex < 0 && !each.closest("[data-grid], [data-graph]"))
  .map((each) => each.outerHTML.slice(0, 200))"""


#: The whole screen, half of one or one at a zoom of 200 %, and a phone.
WIDTHS: Final = (1440, 720, 390)
NARROWEST: Final = 320
"""The width to which pages reflow (WCAG 1.4.10)."""
#: The title, and all of the navigation, are on the screen, and nothing lies over them; the page does not scroll sideways.
HIDDEN: Final = """() => {
  scrollTo(0, 0);
  const found = document.documentElement.scrollWidth > innerWidth ? ["the page scrolls sideways"] : [];
  for (const each of document.querySelectorAll(".top a, .top button, h1")) {
    const text = document.createRange();
    text.selectNodeContents(each);
    const { left, right, top, bottom, width } = each.matches("h1") ? text.getClientRects()[0] : each.getBoundingClientRect();
    if (!width) continue; // no name is shown on a phone
    const there = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    if (left < 0 || right > innerWidth || !(each.contains(there) || there?.contains(each))) found.push(each.outerHTML.slice(0, 200));
  }
  return found;
}"""


def test_every_address_is_that_of_a_page_a_part_or_a_form() -> None:
    names = {pattern.name for pattern in urlpatterns}
    assert names == {*PAGES, *PARTS, *POSTS}


@pytest.fixture(scope="module")
def ids(server: Server) -> Iterator[dict[str, str]]:
    """The ids of a run that has failed and of another one, of a task that failed, and of a schedule."""
    tasks = [
        {"id": "all", "name": "Every page", "dependencies": ["b"], "schemas": {"method": "aggregate_results_executor"}},
        {**step("a", then="fail"), "parent_id": "all"},
        {**step("b", "a"), "parent_id": "all", "inputs": {"topic": "{{run.inputs.topic}}"}},
    ]
    schema = {"type": "object", "properties": {"topic": {"type": "string", "default": "tea"}}}
    server.rpc("flows.save", {"name": "every-page", "tasks": tasks, "inputs_schema": schema})
    first, second = (
        server.rpc("flows.run", {"name": "every-page", "wait": True, "tags": ["nightly"]}) for _ in range(2)
    )
    run, other = (server.rpc("runs.list", {"task_id": each["task_id"]})["runs"][0]["id"] for each in (first, second))
    asking = server.rpc("tasks.execute", {"tasks": {"name": "approval_executor", "inputs": {"question": "Go on?"}}})
    server.rpc("notifications.set", {"name": "every page", "url": "https://hooks.example.com"})
    server.rpc("secrets.set", {"name": "every_page", "value": "a long secret"}, path="/system")
    hook = {"name": "every-page", "verifier": "github", "secrets": ["every_page"], "flow": "every-page"}
    address = server.rpc("hooks.set", hook | {"inputs": {"topic": "{{body.topic}}"}})["url"]
    for delivery, body in (("72d3162e-cc78-11e3-81ab-4c9367dc0958", b'{"topic": "tea"}'), ("failed", b"{}")):
        mac = hmac.new(b"a long secret", body, hashlib.sha256).hexdigest()
        signed = {"X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={mac}"}
        server.http.post(address, content=body, headers=signed | {"Content-Type": "application/json"})
    schedule = server.rpc("schedules.create", {"flow": "every-page", "cron": "0 6 * * *"})["id"]
    asked = {"prompt": "Name three rivers.", "model": "demo/demo"}
    agent = server.rpc("tasks.execute", {"tasks": {"name": "llm_executor", "inputs": asked}, "wait": True})["task_id"]
    scored = {"name": "topic", "with": {"expression": "length(inputs.topic)"}}
    rows = [{"inputs": {"topic": topic}, "expected": topic, "tags": ["warm"]} for topic in ("tea", "coffee")]
    for some in (rows[:1], rows):
        server.rpc("datasets.save", {"name": "every-page", "rows": some, "flow": "every-page"})
    wanted = {"dataset": "every-page", "evaluators": [scored, {"name": "exact", "with": "exact"}], "wait": True}
    experiment = server.rpc("evals.run", wanted)["task_id"]
    failures = server.rpc("home.get", {"since": "1h"})["failures"]
    group = next(each["key"] for each in failures if "every-page" in (share["name"] for share in each["flows"]))
    of_flow = {"root": first["task_id"], "task": first["ids"]["a"], "group": group}
    yield {"experiment": experiment, "run": run, "other": other, "agent": agent, "schedule": schedule, **of_flow}
    server.rpc("tasks.cancel", {"task_ids": [asking["task_id"]]})
    server.rpc("notifications.delete", {"name": "every page"})
    server.rpc("secrets.delete", {"name": "every_page"}, path="/system")
    server.rpc("schedules.delete", {"schedule_id": schedule})
    server.rpc("datasets.delete", {"name": "every-page"})


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    with new_page(browser) as page:
        yield page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_barriers_and_asks_no_other_host(
    name: str, tab: Page, server: Server, ids: dict[str, str]
) -> None:
    asked: list[str] = []
    note = lambda request: asked.append(request.url)  # noqa: E731
    tab.on("request", note)
    tab.goto(server.url + PAGES[name].format(**ids))
    if name == "tree":
        expect(tab.locator("[data-graph] > svg")).to_be_visible()
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate(HIDDEN) == [], width
        for scheme in SCHEMES:
            assert barriers(tab, scheme) == [], width
    tab.set_viewport_size({"width": NARROWEST, "height": 844})
    assert tab.evaluate(HIDDEN) == []
    tab.remove_listener("request", note)
    assert tab.evaluate(OUT_OF_REACH) == []
    assert {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {
        urlsplit(server.url).netloc
    }
