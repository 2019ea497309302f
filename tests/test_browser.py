"""That there is a browser to test with."""

import pytest
from playwright.sync_api import Page


def test_the_browser_runs_javascript(page: Page) -> None:
    page.set_content("<p>before</p>")
    page.evaluate("document.querySelector('p').textContent = 'after'")
    assert page.text_content("p") == "after"


async def test_async_tests_run_beside_those_with_a_browser(request: pytest.FixtureRequest) -> None:
    assert "browser" not in request.fixturenames
