"""The morning of an operator, by the keyboard alone: what failed tonight, why, compared, retried, its cost, and the schedule moved."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.admin.conftest import csrf_token
from tests.servers import Server, new_database, running_server

Json = dict[str, Any]
NAME: Final = "morning-figures"
ECHO: Final[Json] = {"schemas": {"method": "echo_executor"}}
MODEL: Final[Json] = {"prompt": "{{fetch.limit}} sentences, please", "model": "demo/demo"}
TASKS: Final[list[Json]] = [
    {"id": "all", "name": "Figures", "dependencies": ["use"], "schemas": {"method": "aggregate_results_executor"}},
    {"id": "fetch", "name": "Fetch", "parent_id": "all", "inputs": {"limit": 10}, **ECHO},
    {"id": "write", "name": "llm_executor", "parent_id": "all", "dependencies": ["fetch"], "inputs": MODEL},
    {
        "id": "use",
        "name": "Use",
        "parent_id": "all",
        "dependencies": ["fetch", "write"],
        "inputs": {"n": "{{run.inputs.table.rows}}"},
        **ECHO,
    },
]
SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {"table": {"type": "object", "title": "Table"}},
    "required": ["table"],
}
MOST_ACTIONS: Final = 12


@pytest.fixture
def night() -> Iterator[Server]:
    """A server of its own: what it has run since the last visit is what the first page shows."""
    with new_database() as database_url, running_server(database_url) as server:
        server.rpc("flows.save", {"name": NAME, "tasks": TASKS, "inputs_schema": SCHEMA})
        server.rpc("flows.run", {"name": NAME, "inputs": {"table": {"rows": 3}}, "wait": True})
        since = server.rpc("home.get", {})["until"]
        seen = {"csrfmiddlewaretoken": csrf_token(server.http.get("/ui/settings/").text), "until": since}
        assert server.http.post("/ui/seen/", data=seen).status_code == 302
        for _ in range(2):
            server.rpc("flows.run", {"name": NAME, "inputs": {"table": {}}, "wait": True})
        nightly = {"flow": NAME, "name": "Nightly figures", "inputs": {"table": {"rows": 3}}}
        server.rpc("schedules.create", nightly | {"cron": "0 7 * * *"})
        yield server


class Keyboard:
    """What a person does with a keyboard. An action is one key, with Ctrl or without, or one text that is typed."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.actions = 0

    def press(self, key: str) -> None:
        self.actions += 1
        self.page.wait_for_load_state()  # until then no script of the page hears its keys
        self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.actions += 1
        self.page.keyboard.type(text)


def test_the_morning_takes_twelve_keys_and_texts(page: Page, night: Server) -> None:
    heading, keyboard = page.get_by_role("heading", level=1), Keyboard(page)
    page.goto(night.url)

    # What failed, and why.
    expect(heading).to_have_text("2 of 2 runs failed")
    failures = page.locator(".groups li")
    expect(failures).to_have_count(1)
    expect(failures).to_contain_text("'{{run.inputs.table.rows}}' has no value")
    expect(page.get_by_role("row", name="Cost")).to_be_visible()

    # Compared with yesterday.
    keyboard.press("d")
    expect(heading).to_have_text("Two runs of Figures")
    expect(page.locator(".prompt-diff").first).to_contain_text('"rows": 3')
    expect(page.locator(".prompt-diff ins").first).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")

    # Retried with a corrected input.
    keyboard.press("1")
    expect(heading).to_have_text("2 of 2 runs failed")
    keyboard.press("r")
    expect(page.get_by_label("Table")).to_be_focused()
    keyboard.type('{"rows": 3}')
    keyboard.press("Control+Enter")
    expect(page.locator(".messages")).to_contain_text("2 runs were retried.")
    expect(failures).to_contain_text("completes again")

    # What it cost.
    keyboard.press("7")
    expect(heading).to_have_text("Usage")
    expect(page.get_by_role("main")).to_contain_text(NAME)

    # The schedule is moved.
    keyboard.press("5")
    expect(heading).to_have_text("Schedules")
    keyboard.press("j")
    expect(page.get_by_role("link", name="Nightly figures", exact=True)).to_be_focused()
    keyboard.press("e")
    expect(page.get_by_role("textbox", name="Cron expression")).to_be_focused()
    keyboard.type("0 6 * * *")
    expect(page.locator("[data-preview-of]")).to_contain_text("At 06:00 every day")
    keyboard.press("Control+Enter")
    expect(heading).to_have_text("Nightly figures")
    expect(page.locator(".head")).to_contain_text("At 06:00 every day")

    assert keyboard.actions <= MOST_ACTIONS
