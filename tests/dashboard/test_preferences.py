"""What a browser remembers: the theme, and whether single keys are shortcuts."""

from playwright.sync_api import Page, expect

from tests.dashboard.browsing import STATUSES, open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

DARK = "rgb(17, 17, 19)"
LIGHT = "rgb(251, 251, 250)"


def test_the_theme_is_chosen(home: Page, server: Server) -> None:
    body = home.locator("body")
    home.emulate_media(color_scheme="light")
    home.goto(f"{server.url}/ui/settings/")
    theme = home.get_by_label("Theme")
    expect(theme).to_have_value("")
    expect(body).to_have_css("background-color", LIGHT)
    theme.select_option("dark")
    expect(body).to_have_css("background-color", DARK)
    home.goto(server.url)
    expect(body).to_have_css("background-color", DARK)
    home.goto(f"{server.url}/ui/settings/")
    theme.select_option("light")
    home.emulate_media(color_scheme="dark")
    expect(body).to_have_css("background-color", LIGHT)
    theme.select_option("")
    expect(body).to_have_css("background-color", DARK)


def test_shortcuts_can_be_turned_off(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Kept work", "a"), step("a"))
    home.goto(f"{server.url}/ui/settings/")
    home.get_by_label("Keyboard shortcuts").uncheck()
    open_tree(home, server, f"{prefix}-root")
    for key in ("r", "n", "j", "?", "/", "f"):
        home.keyboard.press(key)
    expect(home.get_by_role("dialog", name="Keyboard shortcuts")).to_have_count(0)
    expect(home.locator("#panel h2")).to_have_text("Kept work")
    expect(home.locator(STATUSES)).to_have_text("pending")
    home.goto(f"{server.url}/ui/settings/")
    home.get_by_label("Keyboard shortcuts").check()
    home.keyboard.press("?")
    expect(home.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


def test_a_run_is_cancelled_only_after_a_question(home: Page, server: Server, make: Make) -> None:
    prefix = make(root("Asked work", "a"), step("a", seconds=600), execute=True)
    open_tree(home, server, f"{prefix}-root")
    expect(home.locator(STATUSES)).to_have_text("running")
    home.keyboard.press("c")
    home.get_by_role("button", name="Keep running").click()
    expect(home.get_by_text("Cancel this run?")).to_be_hidden()
    expect(home.locator(STATUSES)).to_have_text("running")
    server.rpc("tasks.cancel", {"task_id": f"{prefix}-root"})
