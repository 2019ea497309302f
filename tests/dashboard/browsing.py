"""What the tests with a browser share: how a page of a tree is opened and read."""

from typing import Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.servers import Server

STATUSES: Final = "[data-tree-status]"
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
ONLY_VIOLATIONS: Final = {"resultTypes": ["violations"]}
"""What axe describes with each of its nodes. To describe what is right as well takes it more time than to look."""


def open_tree(page: Page, server: Server, task_id: str) -> None:
    """Its scripts are there when its graph is."""
    page.goto(f"{server.url}/ui/tasks/{task_id}")
    expect(page.locator("[data-graph] > svg")).to_be_visible()


def keep_outcomes(page: Page) -> None:
    """What a button that copies says stays, however late it is read."""
    page.evaluate(
        "() => { const later = setTimeout; window.setTimeout = (act, ms, ...rest) => (ms === 1400 ? 0 : later(act, ms, ...rest)); }"
    )


def barriers(page: Page, scheme: Literal["light", "dark"]) -> list[tuple[str, list[str]]]:
    """What axe finds wrong with the page as it is: the rule, and the elements. In the dark it only looks at colours.

    In the light also with the rules that axe leaves out by itself: the size of targets, and names that lack the visible text.
    """
    page.emulate_media(color_scheme=scheme)
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    more = {name: {"enabled": True} for name in ("target-size", "label-content-name-mismatch")}
    rules = {"rules": more} if scheme == "light" else {"runOnly": ["color-contrast"]}
    found = page.evaluate("async (options) => (await axe.run(options)).violations", {**ONLY_VIOLATIONS, **rules})
    return [(each["id"], [node["html"] for node in each["nodes"]][:5]) for each in found]


def line(page: Page, name: str) -> Locator:
    """The row of the task with this name, or with it in its name."""
    return page.locator("[data-lines] tr", has=page.locator("a", has_text=name))
