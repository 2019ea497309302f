"""The dashboard over HTTP without TLS, by the name of the machine: where browsers trust a page with less."""

import re
import socket
from collections.abc import Iterator
from typing import Final

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import RequestFactory
from playwright.sync_api import Browser, Page, expect

from apflow_site.page_middleware import OPENER_POLICY, opener_policy
from tests.browser import FLAGS, chromium, new_page
from tests.dashboard.browsing import keep_outcomes
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

HOST: Final = socket.gethostname().lower()


@pytest.fixture(scope="module")
def far(browser: Browser) -> Iterator[Browser]:
    """A browser that finds this machine by its name, as one elsewhere does."""
    rules = f"--host-resolver-rules=MAP {HOST} 127.0.0.1"
    far = browser.browser_type.launch(executable_path=chromium(), args=[*FLAGS, rules])
    yield far
    far.close()


@pytest.fixture
def tree(far: Browser, server: Server, make: Make) -> Iterator[Page]:
    """The page of a tree, as somebody elsewhere has it."""
    prefix = make(root("Far work", "a"), step("a"))
    with new_page(far) as page:
        page.goto(f"{server.url.replace('127.0.0.1', HOST)}/ui/tasks/{prefix}-root")
        expect(page.locator("[data-graph] > svg")).to_be_visible()
        assert page.evaluate("[isSecureContext, navigator.clipboard === undefined]") == [False, True]
        yield page


def copy_code(page: Page) -> None:
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Run from code").click()
    keep_outcomes(page)
    page.locator("#as-code").get_by_role("button", name="Copy").first.click()


def test_what_is_copied_is_on_the_clipboard(tree: Page) -> None:
    copy_code(tree)
    expect(tree.locator("#as-code").get_by_role("button", name="Copied")).to_be_visible()
    tree.goto("/".join([*tree.url.split("/")[:3], "ui/tasks/"]))
    tree.locator("#search").focus()
    tree.keyboard.press("Control+V")
    expect(tree.locator("#search")).to_have_value(re.compile('^curl .*"method":"tasks.execute"'))


def test_where_nothing_can_be_copied_the_page_says_so(tree: Page) -> None:
    tree.evaluate("document.execCommand = () => false")
    copy_code(tree)
    expect(tree.locator("#as-code").get_by_role("button", name="Copy failed")).to_be_visible()


def test_the_browser_has_nothing_to_complain_about(tree: Page) -> None:
    said: list[str] = []
    tree.on("console", lambda message: said.append(message.text))
    tree.reload()
    expect(tree.locator("[data-graph] > svg")).to_be_visible()
    assert said == []


@pytest.mark.parametrize(
    ("host", "is_secure", "is_said"),
    [
        ("localhost:8000", False, True),
        ("tasks.localhost", False, True),
        ("127.0.0.1:8000", False, True),
        ("[::1]:8000", False, True),
        ("192.0.2.7:8000", False, False),
        ("tasks.example", False, False),
        ("tasks.example", True, True),
    ],
)
async def test_the_policy_for_openers_is_said_where_browsers_heed_it(host: str, is_secure: bool, is_said: bool) -> None:
    assert await says_policy(host, is_secure=is_secure) is is_said


async def test_behind_a_proxy_that_speaks_tls_it_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SESSION_COOKIE_SECURE", True)
    assert await says_policy("tasks.example", is_secure=False)


async def says_policy(host: str, *, is_secure: bool) -> bool:
    async def empty(_: HttpRequest) -> HttpResponseBase:
        return HttpResponse()

    request = RequestFactory().get("/", secure=is_secure, headers={"host": host})
    return OPENER_POLICY in (await opener_policy(empty)(request)).headers
