"""The search in a tree, in a real browser."""

import re
from pathlib import Path
from typing import Final

from playwright.sync_api import Locator, Page, Route, expect

from tasks.dashboard.picture import LINES, WHOLE
from tests.dashboard.browsing import line, open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

MANY: Final = WHOLE + 100
"""More than a page knows of a tree."""
GROWTH: Final = re.compile(r"/growth")


def rows(page: Page) -> Locator:
    return page.locator("[data-lines] tr:visible a")


def test_tasks_are_found_by_name_id_executor_and_status(home: Page, server: Server, finished: Make) -> None:
    echo = step("echo") | {"schemas": {"method": "echo_executor"}}
    prefix = finished(root("Found work", "a"), step("a", then="fail"), step("b"), echo)
    open_tree(home, server, f"{prefix}-root")
    field, count = home.get_by_label("Find a task"), home.locator("[data-found]")
    home.keyboard.press("f")
    expect(field).to_be_focused()
    for text, names in [("STEP b", ["Step b"]), (f"{prefix}-a", ["Step a"]), ("echo_exec", ["Step echo"])]:
        field.fill(text)
        expect(rows(home)).to_have_text(names)
    field.fill("step")
    expect(count).to_have_text(re.compile("^. of 3$"))
    home.locator("[data-find-status]").select_option("completed")
    expect(rows(home)).to_have_text(["Step b", "Step echo"])
    expect(home.locator("[data-graph] .found")).to_have_count(2)
    field.fill("nothing like it")
    expect(count).to_have_text("No task found")
    expect(home.get_by_role("button", name="Next match")).to_be_disabled()
    field.press("Escape")
    home.locator("[data-find-status]").select_option("")
    expect(rows(home)).to_have_count(4)


def test_the_next_and_the_previous_match_are_selected(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Walked work", "a", "b", "c"), step("a"), step("b"), step("c"))
    open_tree(home, server, f"{prefix}-root")
    home.get_by_label("Find a task").fill("step")
    for key, name in [("Enter", "a"), ("Enter", "b"), ("Shift+Enter", "a"), ("Shift+Enter", "c"), ("Enter", "a")]:
        home.keyboard.press(key)
        expect(home.locator("#panel h2")).to_contain_text(f"Step {name}")
    home.get_by_role("button", name="Next match").click()
    expect(home.locator("[data-found]")).to_have_text("2 of 3")


def test_a_filter_follows_the_run(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    prefix = make(root("Filtered work", "a"), step("a", gate=str(gate)), execute=True)
    open_tree(home, server, f"{prefix}-root")
    home.locator("[data-find-status]").select_option("in_progress")
    expect(line(home, "Step a")).to_be_visible()
    gate.touch()
    expect(line(home, "Step a")).to_be_hidden()


def test_a_task_without_a_row_is_found(home: Page, server: Server, make: Make) -> None:
    names = [str(number) for number in range(MANY)]
    prefix = make(root("Large work", *names), *[step(name) for name in names])
    open_tree(home, server, f"{prefix}-root")
    last = names[-1]
    expect(home.locator("[data-lines] tr[data-n]")).to_have_count(LINES)
    home.get_by_label("Find a task").fill(f"Step {last}")
    expect(home.locator("[data-found]")).to_have_text("1 found")
    expect(rows(home)).to_have_text([f"Step {last}"])
    home.keyboard.press("Enter")
    expect(home.locator("#panel h2")).to_contain_text(f"Step {last}")
    expect(home.locator(f"[data-graph] [data-task='{prefix}-{last}']")).to_be_in_viewport()
    home.get_by_label("Find a task").fill("Step 1")
    expect(home.locator("[data-found]")).to_have_text("211 of 211")
    for key, name in [("Enter", "1"), ("Enter", "10"), ("Shift+Enter", "1"), ("Shift+Enter", "1099")]:
        home.keyboard.press(key)
        expect(home.locator("#panel h2")).to_contain_text(re.compile(f"Step {name}$"))
    expect(home.locator("[data-found]")).to_have_text("211 of 211")

    # A load that was under way when a row was wanted does not have it.
    held: list[Route] = []
    home.route(GROWTH, lambda route: route.continue_() if held else held.append(route))
    with home.expect_request(GROWTH):
        home.keyboard.press("Shift+Enter")
    for _ in range(2):
        home.keyboard.press("Enter")
    held[0].continue_()
    expect(home.locator("#panel h2")).to_contain_text(re.compile("Step 1$"))
