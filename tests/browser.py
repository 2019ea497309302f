"""The browser of the tests: Debian's Chromium, by Playwright's sync API. `browser` lasts for the session, `page` for a test.

The sync API keeps an event loop running on the main thread from the first browser test on, and no other loop can run there beside it.
So the tests with a browser are marked `browser` and come after all others; `make test` gives them processes of their own.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

PATIENCE_MS: Final = 60_000
FLAGS: Final = (
    "--no-sandbox",  # it does not start as root with one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """The path of Chromium without windows, which takes a third less processor time, or of the whole Chromium."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert path, "These tests need a browser: apt-get install chromium-headless-shell"
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS), timeout=PATIENCE_MS)
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """Open an empty page in a new browser context. `options` are those of Playwright's `new_context`.

    Nothing moves on it unless they say so: without a graphics processor each frame of an animation costs time.
    """
    with browser.new_context(**{"reduced_motion": "reduce", **options}) as context:
        context.set_default_timeout(PATIENCE_MS)
        yield context.new_page()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page. An uncaught JavaScript error on it fails the test."""
    with new_page(browser) as page:
        errors: list[Error] = []
        page.on("pageerror", lambda error: errors.append(error))
        yield page
        assert errors == []


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
