"""What the tests with a browser share: how a page of a tree is opened and read."""

from typing import Final, Literal

from playwright.sync_api import Locator, Page, expect

from tests.servers import Server

STATUSES: Final = "[data-tree-status]"
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def open_tree(page: Page, server: Server, task_id: str) -> None:
    """Its scripts are there when its graph is."""
    page.goto(f"{server.url}/ui/tasks/{task_id}")
    expect(page.locator("[data-graph] > svg")).to_be_visible()


def keep_outcomes(page: Page) -> None:
    """What a button that copies says stays, however late it is read."""
    page.evaluate(
        "() => { const later = setTimeout; window.setTimeout = (act, ms, ...rest) => (ms === 1400 ? 0 : later(act, ms, ...rest)); }"
    )


def line(page: Page, name: str) -> Locator:
    return page.locator("[data-lines] tr", has_text=name)
