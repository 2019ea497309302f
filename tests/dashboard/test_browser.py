"""The dashboard in a real browser, as people use it."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Dialog, Page, Route, expect

from tests.browser import new_page
from tests.dashboard.browsing import STATUSES, keep_outcomes, line, open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

DONE: Final = re.compile("^✓")
PERCENT: Final = re.compile("^[0-9]+ % · ")


def test_a_row_that_changes_while_it_is_clicked_keeps_the_click(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Clicked work", "a"), step("a"))
    home.goto(f"{server.url}/ui/tasks/")
    link = home.get_by_role("link", name="Clicked work")
    link.hover()
    home.mouse.down()
    server.rpc("tasks.execute", {"task_id": f"{prefix}-root", "wait": True})
    other = make(root("Other work", "a"), step("a"))
    with home.expect_response(re.compile(r"/ui/tasks/")):
        home.mouse.up()
    expect(home).to_have_url(re.compile(f"/ui/tasks/{prefix}-root$"))
    assert other != prefix


def test_a_run_is_started_watched_cancelled_and_retried(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Long work", "a", "b"), step("a", seconds=0.4, steps=4), step("b", "a", seconds=600, steps=6000))
    home.goto(f"{server.url}/ui/tasks/")
    home.get_by_role("link", name="Long work").click()
    expect(home.locator(STATUSES)).to_have_text("pending")
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator(".messages")).to_contain_text("Run 1 was submitted")
    expect(line(home, "Step a")).to_have_class(re.compile("completed"))
    expect(line(home, "Step b")).to_have_class(re.compile("in_progress"))
    expect(home).to_have_title(PERCENT)
    expect(home.locator("[data-log]")).to_contain_text(re.compile(r"step \d+ of 6000"))
    expect(home.locator(f"[data-graph] [data-task='{prefix}-b']")).to_have_class(re.compile("in_progress"))
    home.get_by_role("button", name="Cancel", exact=True).click()
    home.get_by_role("button", name="Cancel the run").click()
    expect(home.locator(STATUSES)).to_have_text("cancelled")
    assert server.rpc("tasks.get", {"task_id": f"{prefix}-b"})["status"] == "cancelled"
    home.get_by_role("button", name="Retry").click()
    expect(home.locator(".messages")).to_contain_text("Run 2 was submitted")
    expect(line(home, "Step b")).to_have_class(re.compile("in_progress"))
    expect(home.locator(STATUSES)).to_have_text("running")
    expect(home.locator("[data-graph] > svg")).to_be_visible()  # drawn by the scripts, which hear the keys
    home.keyboard.press("c")
    expect(home.get_by_role("button", name="Cancel the run")).to_be_focused()
    home.keyboard.press("Enter")
    expect(home.locator(STATUSES)).to_have_text("cancelled")


def test_a_menu_that_is_opened_while_the_page_loads_news_stays_open(
    home: Page, server: Server, make: Make, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ask = step("a", question="Ship it?") | {"schemas": {"method": "approval_executor"}}
    prefix = make(root("Menu work", "a", "b"), ask, step("b", gate=str(gate)))
    open_tree(home, server, f"{prefix}-root")
    home.keyboard.press("r")
    questions = home.get_by_role("list", name="Open questions")
    expect(questions).to_contain_text("Ship it?")
    expect(line(home, "Step b")).to_have_class(re.compile("in_progress"))
    open_tree(home, server, f"{prefix}-root")  # with all the news so far
    expect(questions).to_contain_text("Ship it?")
    news, held = re.compile("/ui/head/"), list[Route]()
    home.route(news, lambda route: route.continue_() if held else held.append(route))
    with home.expect_request(news):
        server.rpc("tasks.answer", {"task_id": f"{prefix}-a", "answer": "yes"})
    home.get_by_role("button", name="More actions").click()
    with home.expect_response(news) as reply:
        held[0].continue_()
    reply.value.finished()
    home.evaluate("() => new Promise(requestAnimationFrame)")
    expect(home.get_by_role("button", name="Run from code")).to_be_visible()
    home.keyboard.press("Escape")
    expect(questions).to_have_count(0)
    gate.touch()


@pytest.mark.parametrize("field", ["who", "when"])
def test_an_answer_that_is_begun_while_the_page_loads_news_is_kept(
    home: Page, server: Server, make: Make, field: str
) -> None:
    form = {"type": "object", "properties": {"who": {"type": "string"}, "when": {"enum": ["now", "later"]}}}
    ask = step("a", question="Ship it?", schema=form) | {"schemas": {"method": "approval_executor"}}
    task_id = f"{make(root('Slow answer', 'a'), ask, execute=True)}-a"
    open_tree(home, server, task_id)
    expect(home.get_by_label(field)).to_be_visible()
    home.goto("about:blank")  # it asks for nothing more
    log = {"type": "log", "task_id": task_id, "status": "in_progress", "progress": 0, "tree_progress": 0}
    news = json.dumps(log | {"message": "still waiting", "timestamp": "2026-01-01T00:00:00Z"})
    body = f"retry: 600000\ndata: {news}\n\n"
    home.route("**/ui/events/run/**", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    held = list[Route]()
    home.route("**/ui/panel/**", lambda route: held.append(route))
    with home.expect_request("**/ui/panel/**"):
        open_tree(home, server, task_id)
    if field == "who":
        home.get_by_label(field).fill("me")
    else:
        home.get_by_label(field).select_option("later")
    with home.expect_response("**/ui/panel/**") as reply:
        held[0].continue_()
    reply.value.finished()
    home.evaluate("() => new Promise(requestAnimationFrame)")
    expect(home.get_by_label(field)).to_have_value("me" if field == "who" else "later")
    server.rpc("tasks.cancel", {"task_id": task_id})


def test_the_end_of_a_run_is_shown_without_asking(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    prefix = make(root("Short work", "a"), step("a", gate=str(gate), seconds=0.6, steps=3))
    open_tree(home, server, f"{prefix}-root")
    home.keyboard.press("r")
    expect(home.locator(STATUSES)).to_have_text("running")
    gate.touch()
    expect(home.locator(STATUSES)).to_have_text("completed")
    expect(home).to_have_title(DONE)
    expect(home.locator("[data-done]")).to_have_text("2 of 2 tasks")
    expect(home.locator("#panel")).to_contain_text('"attempt": 1')
    expect(home.get_by_role("button", name="Run a copy")).to_be_visible()
    expect(home.locator("#offline")).to_have_count(0)


def test_an_idle_page_shows_a_run_that_somebody_else_starts(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Shared work", "a"), step("a", seconds=600))
    open_tree(home, server, f"{prefix}-root")
    server.rpc("tasks.execute", {"task_id": f"{prefix}-root"})
    expect(home.locator(STATUSES)).to_have_text("running")
    server.rpc("tasks.cancel", {"task_id": f"{prefix}-root"})
    expect(home.locator(STATUSES)).to_have_text("cancelled")


def test_the_list_is_live(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    prefix = make(root("Old work", "a"), step("a", gate=str(gate)))
    home.goto(f"{server.url}/ui/tasks/")
    row = home.locator(f"tr[data-id='{prefix}-root']")
    expect(row).to_contain_text("not run yet")
    server.rpc("tasks.execute", {"task_id": f"{prefix}-root"})
    expect(row).to_have_class("in_progress")
    gate.touch()
    expect(row).to_have_class("completed")
    expect(row).to_contain_text("2 of 2")
    fresh = make(root("New work", "a"), step("a"), execute=True)
    expect(home.locator("tbody tr").first).to_have_attribute("data-id", f"{fresh}-root")


def test_a_question_shows_up_everywhere_and_its_answer_lets_the_tree_go_on(
    home: Page, server: Server, make: Make
) -> None:
    ask = step("a", question="Ship it?", options=["yes", "no"]) | {"schemas": {"method": "approval_executor"}}
    prefix = make(root("Asking work", "b"), ask, step("b", "a"))
    home.goto(f"{server.url}/ui/inbox/")
    expect(home.get_by_text("No open questions")).to_be_visible()
    server.rpc("tasks.execute", {"task_id": f"{prefix}-root"})
    expect(home.get_by_text("Ship it?")).to_be_visible()
    home.goto(f"{server.url}/ui/tasks/")
    expect(home.locator(f"tr[data-id='{prefix}-root']")).to_contain_text("needs an answer")
    expect(home.locator("[data-questions]")).to_have_text("1")
    open_tree(home, server, f"{prefix}-root")
    home.get_by_label("Open questions").get_by_role("link").click()
    home.locator("#panel").get_by_role("button", name="yes").click()
    open_tree(home, server, f"{prefix}-root")
    expect(home.locator(STATUSES)).to_have_text("completed")
    expect(home.locator("[data-questions]")).to_be_hidden()


def test_what_failed_is_shown_while_the_rest_still_runs(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    failing, lasting = tmp_path / "failing", tmp_path / "lasting"
    prefix = make(
        root("Half broken work", "b", "c"),
        step("a", gate=str(failing), then="fail"),
        step("b", "a"),
        step("c", gate=str(lasting)),
        execute=True,
    )
    open_tree(home, server, f"{prefix}-c")
    expect(home.locator(STATUSES)).to_have_text("running")
    home.get_by_role("button", name="More").click()
    failing.touch()
    expect(line(home, "Step a")).to_have_class(re.compile("failed"))
    expect(home.get_by_role("button", name="Run from code")).to_be_visible()  # an open menu is not taken away
    home.keyboard.press("Escape")
    expect(home.get_by_label("Failed tasks")).to_contain_text("It failed, as it was told to.")
    expect(home.locator(STATUSES)).to_have_text("running")
    lasting.touch()
    expect(home.locator(STATUSES)).to_have_text("failed")


def test_a_page_that_was_there_before_the_work_says_that_it_runs(
    home: Page, server: Server, make: Make, tmp_path: Path
) -> None:
    gates = [tmp_path / name for name in ("a", "b")]
    steps = [step("a", gate=str(gates[0])), step("b", "a", gate=str(gates[1]))]
    prefix = make(root("Early page", "b"), *steps, execute=True)
    open_tree(home, server, f"{prefix}-root")
    expect(line(home, "Step a")).to_have_class(re.compile("in_progress"))
    # As the server writes it when nobody works on the run yet.
    home.locator(f"{STATUSES} .status").evaluate("status => { status.className = 'status pending'; }")
    gates[0].touch()
    expect(home.locator(f"{STATUSES} .in_progress")).to_have_text("running")
    gates[1].touch()
    expect(home.locator(STATUSES)).to_have_text("completed")


def test_an_answer_from_elsewhere_takes_the_question_off_the_page(
    home: Page, server: Server, make: Make, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ask = step("a", question="Ship it?", options=["yes", "no"]) | {"schemas": {"method": "approval_executor"}}
    prefix = make(root("Answered work", "a", "b"), ask, step("b", "a", gate=str(gate)), execute=True)
    open_tree(home, server, f"{prefix}-root")
    banner, badge = home.get_by_label("Open questions"), home.locator("[data-questions]")
    expect(banner).to_contain_text("Ship it?")
    expect(badge).to_have_text("1")
    server.rpc("tasks.answer", {"task_id": f"{prefix}-a", "answer": "yes"})
    expect(banner).to_have_count(0)
    expect(badge).to_be_hidden()
    expect(home.locator(STATUSES)).to_have_text("running")
    gate.touch()
    expect(home.locator(STATUSES)).to_have_text("completed")


def test_why_a_tree_failed_comes_first(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Broken work", "b"), step("a", then="fail"), step("b", "a"))
    open_tree(home, server, f"{prefix}-root")
    causes = home.get_by_label("Failed tasks")
    expect(causes).to_contain_text("It failed, as it was told to.")
    expect(causes.get_by_role("listitem")).to_have_count(1)  # not what failed only because of it
    causes.get_by_role("link", name="Step a", exact=True).click()
    expect(home.locator("#panel")).to_contain_text("It failed, as it was told to.")
    expect(home).to_have_url(re.compile(f"/ui/tasks/{prefix}-a$"))


def test_a_task_can_be_run_again_from_where_it_is(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Chain", "b"), step("a"), step("b", "a"))
    open_tree(home, server, f"{prefix}-b")
    home.get_by_role("button", name="Restart from here").click()
    expect(home.locator(".messages")).to_contain_text("A run of a copy was submitted")
    expect(home.locator(STATUSES)).to_have_text("completed")
    expect(line(home, "Step a")).to_contain_text("reused")
    expect(line(home, "Step b")).not_to_contain_text("reused")


def test_a_tree_is_deleted_only_after_a_second_look(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Waste", "a"), step("a"))
    open_tree(home, server, f"{prefix}-root")
    home.get_by_role("button", name="More").click()
    home.get_by_role("button", name="Delete", exact=True).click()
    expect(home.get_by_text("Delete this tree?")).to_be_visible()
    home.locator("#delete").get_by_role("button", name="Delete").click()
    expect(home.locator(".messages")).to_contain_text("Deleted “Waste”: 2 tasks.")
    assert server.call("tasks.get", {"task_id": f"{prefix}-root"})["error"]["code"] == -32001


def test_a_tree_is_copied_and_edited(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Draft", "a"), step("a"))
    open_tree(home, server, f"{prefix}-root")
    home.get_by_role("button", name="More").click()
    home.get_by_role("link", name="Copy and edit").click()
    editor = home.locator("textarea[name=tree]")
    editor.fill(editor.input_value().replace("Draft", "Final version"))
    home.get_by_role("button", name="Save without running").click()
    expect(home.get_by_role("heading", name="Final version", level=1)).to_be_visible()
    expect(home.locator(STATUSES)).to_have_text("pending")


def test_who_types_before_the_editor_is_ready_goes_on_typing(home: Page, server: Server) -> None:
    script, held = "**/json_editor*.js", list[Route]()
    home.route(script, lambda route: held.append(route))
    with home.expect_request(script):
        home.goto(f"{server.url}/ui/new/tree/", wait_until="commit")
    field = home.locator("textarea[name=tree]")
    field.press("Control+a")
    home.keyboard.type("{")
    held[0].continue_()
    expect(home.locator(".json-editor textarea")).to_be_focused()
    home.keyboard.type("}")
    expect(field).to_have_value("{}")


def test_code_to_run_a_tree_is_copied(browser: Browser, server: Server, make: Make) -> None:
    prefix = make(root("Coded", "a"), step("a"))
    with new_page(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        open_tree(page, server, f"{prefix}-root")
        page.get_by_role("button", name="More").click()
        page.get_by_role("button", name="Run from code").click()
        keep_outcomes(page)
        page.locator("#as-code").get_by_role("button", name="Copy").first.click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert f'"task_id":"{prefix}-root"' in page.evaluate("navigator.clipboard.readText()")


def test_everything_is_reached_by_keys(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Keyed work", "a", "b"), step("a"), step("b"))
    home.goto(f"{server.url}/ui/tasks/")
    home.keyboard.press("/")
    home.keyboard.type("Keyed")
    expect(home.locator("tbody tr")).to_have_count(1)
    expect(home).to_have_url(re.compile(r"/ui/tasks/\?q=Keyed$"))
    home.keyboard.press("Escape")
    home.keyboard.press("j")
    home.keyboard.press("Enter")
    expect(home).to_have_url(re.compile(f"{prefix}-root$"))
    expect(home.locator("[data-graph] > svg")).to_be_visible()
    home.keyboard.press("j")
    expect(home.locator("#panel h2")).to_contain_text("Step a")
    home.keyboard.press("j")
    expect(home.locator("#panel h2")).to_contain_text("Step b")
    home.keyboard.press("k")
    expect(home.locator("#panel h2")).to_contain_text("Step a")
    home.keyboard.press("?")
    expect(home.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    home.keyboard.press("Escape")
    expect(home.get_by_role("dialog", name="Keyboard shortcuts")).to_be_hidden()


def test_the_key_for_the_search_leads_to_it_from_everywhere(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Sought work", "a"), step("a"))
    open_tree(home, server, f"{prefix}-root")
    home.keyboard.press("/")
    expect(home.locator("#search")).to_be_focused()
    home.keyboard.type("Sought")
    expect(home.locator("tbody tr")).to_have_count(1)


def test_what_is_typed_before_the_scripts_have_loaded_is_searched(home: Page, server: Server, finished: Make) -> None:
    finished(root("Premature work", "a"), step("a"))
    held: list[Route] = []
    home.route(re.compile(r"/htmx[^/]*\.js"), lambda route: route.continue_() if held else held.append(route))
    home.goto(f"{server.url}/ui/tasks/", wait_until="commit")
    home.locator("#search").fill("Premature")
    held[0].continue_()
    expect(home.locator("tbody tr")).to_have_count(1)


def test_times_are_those_of_the_clock_on_the_wall(browser: Browser, server: Server, finished: Make) -> None:
    prefix = finished(root("Timed work", "a"), step("a"))
    moment = datetime.fromisoformat(server.finished(f"{prefix}-root")[-1]["timestamp"])
    with new_page(browser, timezone_id="Asia/Tokyo") as page:
        open_tree(page, server, f"{prefix}-a")
        for place in ("[data-log]", "#panel .events"):
            expect(page.locator(f"{place} time").first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))
        last = page.locator("[data-log] time").last
        in_tokyo = moment.astimezone(ZoneInfo("Asia/Tokyo"))
        expect(last).to_have_text(re.compile(f"^{in_tokyo:%H:%M:%S}"))
        expect(last).to_have_attribute("title", re.compile(rf"^{moment:%Y-%m-%d %H:%M:%S}\.\d{{3}} UTC$"))


def test_without_scripts_everything_can_be_read_and_run(bare: Page, server: Server, make: Make) -> None:
    prefix = make(root("Plain work", "a", "b"), step("a", then="fail"), step("b"))
    bare.goto(f"{server.url}/ui/tasks/?q=Plain")
    bare.get_by_role("link", name="Plain work").click()
    with bare.expect_navigation():  # a reload in the middle of it would fail
        bare.get_by_role("button", name="Run", exact=True).click()
    server.finished(f"{prefix}-root")
    bare.reload()
    expect(bare.locator(STATUSES)).to_have_text("failed")
    expect(line(bare, "Step b").locator("rect.last")).to_have_count(1)
    line(bare, "Step a").get_by_role("link").click()
    expect(bare.locator("#panel")).to_contain_text("It failed, as it was told to.")
    expect(bare.locator("[data-log]")).to_contain_text("task_failed")
    expect(bare.locator("[data-log] time").first).to_have_text(re.compile("UTC$"))
    bare.get_by_role("link", name="Step b").first.click()
    expect(bare.locator("#panel")).to_contain_text('"attempt": 1')


def test_hostile_texts_are_shown_as_texts(home: Page, server: Server) -> None:
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    home.on("dialog", note)
    evil = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>{{7*7}}"
    task_id = "a/b?c#d%2F'\"<b>&../\n"
    tasks = [
        {"id": task_id, "name": evil},
        {
            "id": f"{task_id}2",
            "name": evil,
            "parent_id": task_id,
            "schemas": {"method": "echo_executor"},
            "inputs": {evil: [evil]},
        },
    ]
    server.rpc("tasks.execute", {"tasks": tasks, "wait": True})
    home.goto(f"{server.url}/ui/tasks/")
    home.get_by_role("link", name="<img src=x").click()
    expect(home.get_by_role("heading", level=1)).to_have_text(evil)
    home.locator("[data-lines] tr", has_text="echo_executor").get_by_role("link").click()
    expect(home.locator("#panel .code").first).to_contain_text(evil.replace('"', '\\"'))
    expect(home.locator("#panel code").first).to_contain_text("a/b?c#d%2F'\"<b>&../")
    home.reload()
    expect(home.locator("#panel .code").first).to_contain_text("onerror")
    assert home.locator("main img, main b, main script:not([type='application/json'])").count() == 0
    home.remove_listener("dialog", note)
    assert dialogs == []
