"""The example front end of AG-UI, started as its page says, in Chromium."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.clients.typescript import NPM
from tests.documents import text
from tests.interop.environments import WITH_NODE, node_packages
from tests.ports import free_port
from tests.servers import Server, until

PAGE: Final = "docs/how-to/ag-ui.md"
EXAMPLE: Final = Path(__file__).parents[2] / "docs/examples/ag-ui-front-end"


@pytest.fixture(scope="module")
def front_end() -> Iterator[str]:
    """The address of the page, which `npm start` serves."""
    port = free_port()
    npm, *words = text(PAGE, "An example", "sh").splitlines()[-1].split()
    assert npm == "npm"
    started = subprocess.Popen(
        [sys.executable, "-c", NPM, *words],
        cwd=node_packages(EXAMPLE),
        env=WITH_NODE | {"PORT": str(port)},
        stdin=subprocess.PIPE,  # it ends when this is closed
        start_new_session=True,
    )
    url = f"http://localhost:{port}"
    try:
        until(lambda: started.poll() is None and _answers(url), seconds=120, what="the page")
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        started.communicate(timeout=60)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/app.js", timeout=60) as response:
        return bool(response.status == 200)
    return False


def test_a_run_is_shown_and_its_question_answered(server: Server, front_end: str, page: Page) -> None:
    page.goto(f"{front_end}/?server={server.url}")
    page.get_by_label("Topic").fill("the river Elbe")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("group")).to_contain_text("Publish the text about the river Elbe?")
    expect(page.locator("#words")).to_contain_text("You asked: Write about the river Elbe.")
    expect(page.get_by_role("listitem")).to_have_text(
        ["Publish a text: pending", "Write: completed", "Ask: in_progress", "Publish: pending"]
    )
    page.get_by_role("button", name="yes").click()
    expect(page.get_by_role("status")).to_have_text("completed, 100 %")
    expect(page.get_by_role("group")).to_be_hidden()
    expect(page.get_by_role("listitem").filter(has_text="Publish: completed")).to_be_visible()
