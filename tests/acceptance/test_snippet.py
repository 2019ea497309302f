"""JavaScript for the WebSocket, the guide's and that of the page on streams, as it stands, in a browser."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import ConsoleMessage, Page

from tests.cutting import cut_often
from tests.documents import text
from tests.servers import Server, new_database, running_server

SNIPPET = """
const ws = new WebSocket('ws://localhost:8000/ws');
ws.onmessage = (event) => {
const update = JSON.parse(event.data);
console.log('Progress:', update.progress);
};
"""
TREE = {"tasks": [{"name": "sleep_executor", "inputs": {"seconds": 0.2, "steps": 4}}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Of its own: the snippet shows all runs of its server, and other tests may have left some on a shared one."""
    with new_database() as database_url, running_server(database_url) as server:
        yield server


def open_with(page: Page, snippet: str, server: Server) -> None:
    """A page of the server with the snippet at its top, so that its `const` is the page's, as in the console; its socket is open."""
    address = server.url.replace("127.0.0.1", "localhost")
    page.goto(f"{address}/health")  # any page of this origin; those for people let no script in that is not theirs
    with page.expect_event("websocket"):
        page.add_script_tag(content=snippet.replace("localhost:8000", address.removeprefix("http://")))
    page.wait_for_function("ws.readyState === WebSocket.OPEN")


def test_the_guides_snippet_shows_progress_in_a_browser(page: Page, server: Server) -> None:
    open_with(page, SNIPPET, server)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))

    def is_last(message: ConsoleMessage) -> bool:
        return said[-2:] == ["Progress: 1", "Progress: 1"]

    with page.expect_console_message(is_last):
        server.rpc("tasks.execute", TREE)
    assert said == [f"Progress: {progress}" for progress in (0, 0.25, 0.5, 0.75, 1, 1)]


def test_the_recipe_of_the_page_on_streams_loses_and_doubles_nothing_over_cut_connections(
    page: Page, server: Server
) -> None:
    steps = {"name": "sleep_executor", "inputs": {"seconds": 6, "steps": 400}}
    server.rpc("tasks.execute", {"tasks": [steps | {"id": "task-123"}]})
    server.rpc("tasks.execute", {"tasks": [steps]})  # of another tree, whose events are not asked for
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    with cut_often(server.url, every_bytes=2_000, cuts=5) as proxy:
        recipe = text("docs/how-to/stream.md", "Follow runs live", "javascript")
        recipe = recipe.replace("localhost:8000", proxy.url.removeprefix("http://"))
        page.goto(f"{proxy.url}/health")
        page.add_script_tag(content=recipe.replace("1000)", "10)"))
        (first,) = (event for event in server.finished("task-123") if event["type"] == "final")
        page.wait_for_function(f"place === 'run_id={first['run_id']}&after={first['seq']}'")
        assert proxy.cuts == 5
        server.rpc("tasks.execute", {"task_id": "task-123"})
        (second,) = (event for event in server.finished("task-123") if event["type"] == "final")
        page.wait_for_function(f"place === 'run_id={second['run_id']}&after={second['seq']}'")
    followed = [tuple(line.split()[:2]) for line in seen if first["run_id"] in line or second["run_id"] in line]
    assert len(followed) == len([line for line in seen if re.match(r"\S+ \d+ \w+ [\d.]+$", line)])
    assert followed == [(event["run_id"], str(seq)) for event in (first, second) for seq in range(1, event["seq"] + 1)]
