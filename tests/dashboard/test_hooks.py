"""The pages of inbound hooks in a browser: the address, what was delivered, and a replay."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import new_page
from tests.servers import Server

pytestmark = pytest.mark.browser

SECRET: Final = "the secret of the pages of hooks"
NAME: Final = "page-of-hooks"


@pytest.fixture
def address(server: Server) -> Iterator[str]:
    tasks = [{"id": "triage", "name": "echo_executor", "inputs": {"title": "{{run.inputs.title}}"}}]
    server.rpc("secrets.set", {"name": "page_of_hooks", "value": SECRET}, path="/system")
    server.rpc("flows.save", {"name": NAME, "tasks": tasks})
    hook = {"name": NAME, "verifier": "github", "secrets": ["page_of_hooks"], "flow": NAME}
    mapping = {
        "inputs": {"title": "{{body.title}}"},
        "filter": {"not": {"path": "/body/draft", "op": "eq", "value": True}},
    }
    yield server.rpc("hooks.set", hook | mapping)["url"]
    server.rpc("hooks.delete", {"name": NAME})
    server.rpc("flows.delete", {"name": NAME})
    server.rpc("secrets.delete", {"name": "page_of_hooks"}, path="/system")


def deliver(server: Server, address: str, number: int, **body: object) -> None:
    raw = json.dumps(body).encode()
    signature = f"sha256={hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()}"
    headers = {"X-GitHub-Delivery": f"delivery-{number}", "X-Hub-Signature-256": signature}
    server.http.post(address, content=raw, headers=headers | {"Content-Type": "application/json"})


def test_the_address_is_copied_and_a_delivery_replayed(server: Server, address: str, browser: Browser) -> None:
    deliver(server, address, 1, title="Crash")
    deliver(server, address, 2, title="Draft", draft=True)
    deliver(server, address, 3, nothing=True)
    with new_page(browser) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{server.url}/ui/settings/")
        page.get_by_role("link", name="Addresses and deliveries").click()
        row = page.get_by_role("row").filter(has_text=NAME)
        expect(row).to_contain_text(address)
        row.get_by_role("button", name="Copy").click()
        assert page.evaluate("navigator.clipboard.readText()") == address
        row.get_by_role("link", name=NAME).first.click()
        rows = page.get_by_role("row").filter(has_text="delivery-")
        expect(rows).to_have_count(3)
        expect(rows.nth(0)).to_contain_text("has no value")
        expect(rows.nth(1)).to_contain_text("filtered out")
        expect(rows.nth(2).get_by_role("link", name="started")).to_be_visible()
        rows.nth(2).get_by_role("button", name="Replay").click()
        expect(page.get_by_text("started.")).to_be_visible()
        expect(rows).to_have_count(4)
        expect(rows.nth(0)).to_contain_text("replay")
        rows.nth(1).get_by_role("button", name="Replay").click()
        expect(page.get_by_text("failed. inputs.title")).to_be_visible()
        page.get_by_role("button", name="Delete").first.click()
        page.get_by_role("button", name="Delete").last.click()
        expect(page.get_by_text(f"Deleted the hook {NAME}.")).to_be_visible()


def test_a_hook_of_nobody_is_not_found(server: Server) -> None:
    for path in ("/ui/hooks/none/", f"/ui/hooks/{NAME}/?before=1"):
        reply = server.http.get(path)
        assert (reply.status_code, "You have no inbound hook" in reply.text) == (404, True)
