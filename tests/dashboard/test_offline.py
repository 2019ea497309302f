"""What a page shows while its server is away, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.dashboard.browsing import line, open_tree
from tests.dashboard.conftest import Make, prefixed, root, step
from tests.servers import Server, new_database, running_server
from tests.shared_servers import QUICK_STOP


@pytest.fixture
def console(page: Page) -> list[str]:
    """The errors that the page writes to the console, without those of the browser about the network."""
    errors: list[str] = []

    def note(kind: str, text: str) -> None:
        if kind == "error" and "net::ERR" not in text:
            errors.append(text)

    page.on("console", lambda message: note(message.type, message.text))
    return errors


@pytest.fixture
def away(page: Page) -> Iterator[BrowserContext]:
    """The browser's context, which can take the network away."""
    yield page.context
    page.context.set_offline(offline=False)


def test_nothing_of_another_task_stays_in_the_panel(
    page: Page, server: Server, make: Make, away: BrowserContext, console: list[str]
) -> None:
    prefix = make(root("Cut work", "a"), step("a"))
    open_tree(page, server, f"{prefix}-root")
    away.set_offline(offline=True)
    line(page, "Step a").get_by_role("link").click()
    expect(page.locator("#panel h2")).to_have_text("Step a")
    expect(page.locator("#panel")).to_contain_text("The server cannot be reached.")
    expect(page.locator("#offline")).to_be_visible()
    run = page.get_by_role("button", name="Run", exact=True)
    expect(run).to_be_disabled()
    expect(run).to_have_attribute("title", "The server cannot be reached")
    page.keyboard.press("r")
    expect(page).to_have_url(re.compile(f"{prefix}-a$"))
    assert console == []


def test_a_stopped_server_ends_the_clocks_and_its_return_starts_them(page: Page, tmp_path: Path) -> None:
    tasks = prefixed("t", [root("Stopped work", "a"), step("a", gate=str(tmp_path / "gate"))])
    with new_database() as database_url:
        with running_server(database_url, env=QUICK_STOP) as server:
            server.rpc("tasks.create", {"tasks": tasks, "execute": True})
            open_tree(page, server, "t-root")
            expect(line(page, "Step a")).to_have_class(re.compile("in_progress"))
            port = int(server.url.rsplit(":", 1)[1])
        expect(page.locator("#offline")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel the run", include_hidden=True)).to_be_disabled()
        with running_server(database_url, port=port) as server:
            expect(page.locator("#offline")).to_be_hidden()
            expect(page.get_by_role("button", name="Cancel the run", include_hidden=True)).to_be_enabled()
            server.rpc("tasks.cancel", {"task_id": "t-root"})
            expect(page.locator("[data-tree-status]")).to_have_text("cancelled")


def test_many_selections_leave_nothing_in_the_console(
    page: Page, server: Server, make: Make, console: list[str]
) -> None:
    names = [str(number) for number in range(12)]
    prefix = make(root("Hasty work", *names), *[step(name) for name in names])
    open_tree(page, server, f"{prefix}-root")
    for _ in names:
        page.keyboard.press("j")
    expect(page.locator("#panel h2")).to_contain_text(f"Step {names[-1]}")
    assert console == []
