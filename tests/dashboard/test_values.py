"""Inputs and results of a task on its page: folded, copied and downloaded as a whole."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import new_page
from tests.dashboard.browsing import keep_outcomes, open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

LARGE: Final = {"rows": [{"number": number, "text": "x" * 50} for number in range(2_000)], "last": "end"}
HUGE_NUMBER: Final = "4611686018427387905"


def echo(**inputs: Any) -> dict[str, Any]:
    return step("a", **inputs) | {"schemas": {"method": "echo_executor"}}


def section(page: Page, title: str) -> Locator:
    return page.locator("#panel section", has=page.get_by_role("heading", name=title, exact=True))


def test_a_value_folds(home: Page, server: Server, finished: Make) -> None:
    inputs = {"deep": {"list": list(range(150)), "empty": [], "none": None}, "names": ["a", "b"], "flag": True}
    prefix = finished(root("Folded work", "a"), echo(**inputs))
    open_tree(home, server, f"{prefix}-a")
    view = section(home, "Inputs").locator("json-view")
    expect(view.locator(".json")).to_contain_text('"flag": true')
    numbers = view.locator("summary", has_text='"list"')
    expect(numbers).to_contain_text("150 items")
    expect(view.get_by_text("149", exact=True)).to_have_count(0)
    numbers.focus()
    home.keyboard.press("Enter")
    view.get_by_role("button", name="Show more: 50 are left").click()
    expect(view.get_by_text("149", exact=True)).to_be_visible()
    numbers.click()
    expect(view.get_by_text("149", exact=True)).to_be_hidden()


def test_numbers_keep_their_digits(home: Page, server: Server, finished: Make) -> None:
    numbers = {f"n{number}": number for number in range(8)} | {"big": int(HUGE_NUMBER)}
    prefix = finished(root("Exact work", "a"), echo(**numbers))
    open_tree(home, server, f"{prefix}-a")
    expect(section(home, "Inputs").locator(".json")).to_contain_text(f'"big": {HUGE_NUMBER}')


def test_a_large_value_is_copied_and_downloaded_as_a_whole(
    browser: Browser, server: Server, finished: Make, tmp_path: Path
) -> None:
    prefix = finished(root("Large value", "a"), echo(**LARGE))
    with new_page(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        open_tree(page, server, f"{prefix}-a")
        shown = section(page, "Inputs")
        expect(shown).to_contain_text("Only the beginning is shown.")
        keep_outcomes(page)
        shown.get_by_role("button", name="Copy the inputs").click()
        expect(shown.get_by_role("button", name="Copied")).to_be_visible()
        assert json.loads(page.evaluate("navigator.clipboard.readText()")) == LARGE
        with page.expect_download() as download:
            shown.get_by_role("link", name="Download the inputs").click()
        file = tmp_path / "inputs.json"
        download.value.save_as(file)
        assert download.value.suggested_filename == f"{prefix}-a-inputs.json"
        assert json.loads(file.read_text()) == LARGE
        shown.get_by_role("button", name="Show all").click()
        expect(shown.locator("summary", has_text='"rows"')).to_contain_text("2,000 items")


def test_a_download_has_a_name(server: Server, finished: Make) -> None:
    prefix = finished(root("Aggregate", "a"), echo(word="x"))
    response = server.http.get(f"/ui/value/schemas/{prefix}-a?download")
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{prefix}-a-schemas.json"'
    assert response.json() == {"method": "echo_executor"}


@pytest.mark.parametrize("kind", ["inputs", "resolved"])
def test_credentials_are_masked(kind: str, server: Server, make: Make) -> None:
    call = step("a", url="https://x.invalid/", auth={"bearer": "sk-very-secret"})
    prefix = make(root("Masked work", "a"), call | {"schemas": {"method": "rest_executor"}})
    response = server.http.get(f"/ui/value/{kind}/{prefix}-a")
    assert response.status_code == 200
    assert "sk-very-secret" not in response.text


def test_nothing_else_of_a_task_is_a_value(server: Server, make: Make) -> None:
    prefix = make(root("Closed work"))
    assert server.http.get(f"/ui/value/user_id/{prefix}-root").status_code == 404
    assert server.http.get("/ui/value/result/nothing", headers={"Accept": "text/html"}).status_code == 404
    name = server.http.get(f"/ui/value/result/{prefix}-root?download").headers["Content-Disposition"]
    assert re.fullmatch(r'attachment; filename="[\w.-]+"', name)
