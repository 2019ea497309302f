"""The pages for people who need them large, by keys, read aloud, or still."""

from playwright.sync_api import Browser, Page, expect

from tests.browser import new_page
from tests.dashboard.browsing import open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server


def test_nothing_moves_for_those_who_do_not_want_it(browser: Browser, server: Server, make: Make) -> None:
    prefix = make(root("Calm", "a"), step("a", seconds=600), execute=True)
    for motion, animation in (("no-preference", "turn"), ("reduce", "none")):
        with new_page(browser, reduced_motion=motion) as page:
            open_tree(page, server, f"{prefix}-a")
            running = page.get_by_role("link", name="Step a: running").locator(".icon use")
            expect(running).to_have_css("animation-name", animation)
    server.rpc("tasks.cancel", {"task_id": f"{prefix}-root"})


def test_the_keyboard_skips_to_the_selected_task(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Skipped work", "a"), step("a"))
    open_tree(home, server, f"{prefix}-a")
    skip = home.get_by_role("link", name="Skip to the selected task")
    skip.focus()
    home.keyboard.press("Enter")
    expect(home.locator("#panel")).to_be_focused()
    home.keyboard.press("Tab")
    expect(home.locator("#panel :focus")).to_have_count(1)
