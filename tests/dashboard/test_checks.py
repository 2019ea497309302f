"""Checks of tasks on the pages, in a real browser."""

from playwright.sync_api import Page, expect

from tests.dashboard.browsing import STATUSES, open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server


def test_the_page_of_a_task_shows_what_its_checks_have_found(home: Page, server: Server, make: Make) -> None:
    echo = step("a", to="ada@example.com") | {"schemas": {"method": "echo_executor"}}
    checks = [
        {"on": "input", "with": "secrets"},
        {"on": "output", "with": "addresses", "then": "redact"},
    ]
    task_id = f"{make(root('Checked', 'a'), echo | {'params': {'checks': checks}}, execute=True)}-a"
    open_tree(home, server, task_id)
    expect(home.locator(STATUSES)).to_have_text("completed")
    items = home.locator("#panel .checks li")
    expect(items).to_contain_text(["secrets on the input", "addresses on the output"])
    expect(items.nth(1)).to_contain_text("it has an e-mail address; then: redact")
    expect(home.locator("#panel")).to_contain_text('"to": "[redacted]"')
    home.goto(f"{server.url}/ui/trace/{task_id}")
    expect(home.locator(".checks li").first).to_contain_text("secrets on the input")


def test_a_person_edits_a_text_that_did_not_pass(home: Page, server: Server, make: Make) -> None:
    echo = step("a", text="ada@example.com") | {"schemas": {"method": "echo_executor"}}
    checks = [{"on": "output", "with": "addresses", "then": "ask"}]
    task_id = f"{make(root('Asked', 'a'), echo | {'params': {'checks': checks}}, execute=True)}-a"
    open_tree(home, server, task_id)
    panel = home.locator("#panel")
    expect(panel).to_contain_text("The check 'addresses' on the output of 'Step a' did not pass")
    panel.get_by_label("decision").select_option("edit")
    panel.get_by_label("value").fill('{"text": "by hand"}')
    panel.get_by_role("button", name="Answer").click()
    expect(home.get_by_role("status")).to_contain_text("Answer saved")
    open_tree(home, server, task_id)
    expect(home.locator(STATUSES)).to_have_text("completed")
    expect(panel).to_contain_text('"text": "by hand"')
