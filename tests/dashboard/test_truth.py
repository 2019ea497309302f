"""The statuses that people see: what was not run is no failure, a root has the status of its run, and what was handled is no incident."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.dashboard.browsing import SCHEMES, STATUSES, barriers, line, open_tree
from tests.dashboard.conftest import Json, Make, root, step
from tests.servers import Server


def broken(name: str, **inputs: str) -> list[Json]:
    """A tree with one failure, in a group, for which two tasks are not run."""
    group = {"id": "group", "name": "Group", "parent_id": "root", "dependencies": []}
    bad, late = (
        {**step(*each, **more), "parent_id": "group"} for each, more in ((("bad",), inputs), (("late", "bad"), {}))
    )
    return [root(name), group, bad, late, step("later", "late"), step("apart")]


def test_a_failed_tree_has_one_failure_and_a_root_that_failed(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*broken("One cause", then="fail"))
    open_tree(home, server, f"{prefix}-root")
    expect(home.locator("[data-done]")).to_have_text("3 completed · 1 failed · 2 not run")
    looks = {
        "One cause": "failed",
        "Group": "failed",
        "Step bad": "failed",
        "Step late": "not run",
        "Step apart": "completed",
    }
    for name, look in looks.items():
        expect(line(home, name).first.locator("td > svg").first).to_have_attribute("aria-label", look)
        assert home.locator("[data-graph] title", has_text=f"{name}: {look}").count() == 1
    expect(home.get_by_role("list", name="Failed tasks").get_by_role("listitem")).to_have_count(1)
    home.get_by_role("link", name="Step later").first.click()
    panel = home.locator("#panel")
    expect(panel.locator(".cause")).to_have_text("Not run because Step bad failed.")
    expect(panel.locator(".panel-head")).to_have_class("panel-head not_run")
    home.locator("[data-find-status]").select_option("not_run")
    expect(home.locator("[data-found]")).to_have_text("2 of 2")
    assert [found for scheme in SCHEMES for found in barriers(home, scheme)] == []


def test_a_failure_is_told_from_what_it_stops_while_the_tree_runs(
    home: Page, server: Server, make: Make, tmp_path: Path
) -> None:
    prefix = make(*broken("Live cause", gate=str(tmp_path / "gate"), then="fail"), execute=True)
    open_tree(home, server, f"{prefix}-root")
    expect(line(home, "Step bad").locator("svg.status-icon")).to_have_attribute("aria-label", "running")
    for name in ("Live cause", "Group"):
        expect(line(home, name).locator("svg.status-icon")).to_have_attribute("aria-label", "running")
    expect(home.locator("#panel .panel-head")).to_have_class("panel-head in_progress")
    expect(home.locator("#panel")).not_to_contain_text("Queue time")
    (tmp_path / "gate").touch()
    expect(home.locator(f"{STATUSES} .failed")).to_be_visible()
    expect(home.locator("[data-done]")).to_have_text("3 completed · 1 failed · 2 not run")
    looks = {"Live cause": "failed", "Group": "failed", "Step later": "not run"}
    for name, look in looks.items():
        expect(line(home, name).first.locator("svg.status-icon")).to_have_attribute("aria-label", look)
        expect(home.locator("[data-graph] title", has_text=f"{name}: {look}")).to_have_count(1)


def test_a_failure_that_is_handled_is_no_incident(server: Server, finished: Make) -> None:
    tool = {**step("tool", then="fail"), "params": {"allow_failure": True}}
    group = {"id": "group", "name": "Group", "parent_id": "root", "dependencies": []}
    prefix = finished(root("Handled"), group, tool | {"parent_id": "group"}, step("apart"))
    shown = server.http.get(f"/ui/tasks/{prefix}-root").text
    assert "3 completed · 1 handled" in shown and "Failed tasks" not in shown
    rows = re.findall(r'<tr class="(\w+)[^>]*>.*?>([^<]+)</a>', shown)
    assert {name: look for look, name in rows} == {
        "Handled": "completed",
        "Group": "completed",
        "Step tool": "handled",
        "Step apart": "completed",
    }
    assert '<rect class="failed"' not in shown and '<rect class="handled"' in shown
    row = server.http.get(f"/ui/tasks/?q={prefix}-root").text
    assert "3 completed · 1 handled" in row and '<rect class="failed"' not in row
    run_id = server.rpc("runs.list", {"task_id": f"{prefix}-root"})["runs"][0]["id"]
    assert "What failed" not in (page := server.http.get(f"/ui/runs/{run_id}/").text) and "failed, handled" in page


def test_the_grid_of_a_flow_shows_which_step_failed(server: Server) -> None:
    tasks = [{"id": "root", "name": "Flow"}, step("a", then="fail"), step("b", "a"), step("c", "b")]
    server.rpc("flows.save", {"name": "truth", "tasks": tasks})
    server.rpc("flows.run", {"name": "truth", "wait": True})
    grid = server.http.get("/ui/flows/truth/").text
    assert re.findall(r'class="square (\w+)"', grid) == ["failed", "failed", "not_run", "not_run"]
    assert 'title="c: not run"' in grid
    assert re.findall(r'class="failures[^"]*">(\d)<', grid) == ["1", "1", "0", "0"]
