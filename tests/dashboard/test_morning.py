"""The morning of an operator, by the keyboard alone: what failed tonight, why, mended from there, and the schedule moved."""

import re
from typing import Any, Final

from playwright.sync_api import Page, expect

from tests.dashboard.browsing import STATUSES
from tests.servers import Server

Json = dict[str, Any]
ECHO: Final[Json] = {"schemas": {"method": "echo_executor"}}
NAME: Final = "morning-figures"
MOST_KEYS: Final = 80
FOCUSED: Final = "() => (document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent).trim()"


def tasks(number: str) -> list[Json]:
    return [
        {"id": "all", "name": "Figures", "dependencies": ["use"], "schemas": {"method": "aggregate_results_executor"}},
        {"id": "fetch", "name": "Fetch", "parent_id": "all", "inputs": {"rows": 3}, **ECHO},
        {"id": "use", "name": "Use", "parent_id": "all", "dependencies": ["fetch"], **ECHO, "inputs": {"n": number}},
    ]


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has a name of this pattern."""
    for _ in range(MOST_KEYS):
        page.keyboard.press("Tab")
        if re.match(name, str(page.evaluate(FOCUSED))):
            return
    raise AssertionError(f"{MOST_KEYS} keys lead to no {name!r} on {page.url}")


def follow(page: Page, name: str, heading: str) -> None:
    tab_to(page, name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
    page.wait_for_load_state()  # until then no script of the page hears its keys


def test_what_failed_is_found_mended_and_compared_and_the_schedule_moved(home: Page, server: Server) -> None:
    for number in ("{{fetch.rows}}", "{{fetch.number}}"):  # yesterday, and tonight
        server.rpc("flows.save", {"name": NAME, "tasks": tasks(number)})
        server.rpc("flows.run", {"name": NAME, "wait": True})
    server.rpc("schedules.create", {"flow": NAME, "name": "Nightly figures", "cron": "0 7 * * *"})

    home.goto(server.url)
    follow(home, "Runs", "Runs")
    tab_to(home, ".*show only failed runs$")
    home.keyboard.press("Enter")
    expect(home).to_have_url(f"{server.url}/ui/runs/?days=7&status=failed")
    home.wait_for_load_state()
    follow(home, "Figures", "Figures")
    expect(home.locator(".failures")).to_contain_text("'{{fetch.number}}' has no value")

    follow(home, "Compare with the run before", "Two runs of Figures")
    expect(home.get_by_text("Use status, inputs")).to_be_visible()
    home.go_back()

    follow(home, "Edit and run from here: Use", "Edit and run from “Use”")
    tab_to(home, "Inputs")
    home.keyboard.press("Control+A")
    home.keyboard.type('{"n": "{{fetch.rows}}"}')
    home.keyboard.press("Control+Enter")
    expect(home.locator(STATUSES)).to_have_text("completed")

    follow(home, "Schedules", "Schedules")
    follow(home, "Nightly figures", "Nightly figures")
    follow(home, "Edit", "Edit schedule")
    tab_to(home, "Cron expression")
    home.keyboard.press("Control+A")
    home.keyboard.type("0 6 * * *")
    expect(home.locator("[data-preview-of]")).to_contain_text("At 06:00 every day")
    home.keyboard.press("Control+Enter")
    expect(home.get_by_role("heading", level=1)).to_have_text("Nightly figures")
    expect(home.locator(".head")).to_contain_text("At 06:00 every day")
