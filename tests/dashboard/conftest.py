"""One real server for all browser tests, and trees to show on it."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.servers import Server

Json = dict[str, Any]
Make = Callable[..., str]


def step(task_id: str, *needs: str, **inputs: Any) -> Json:
    """A task that does what its inputs say."""
    return {
        "id": task_id,
        "name": f"Step {task_id}",
        "parent_id": "root",
        "schemas": {"method": "scripted_executor"},
        "inputs": inputs,
        "dependencies": [*needs],
    }


def root(name: str, *needs: str) -> Json:
    """What gathers the results of the others."""
    method = {"schemas": {"method": "aggregate_results_executor"}} if needs else {}
    return {"id": "root", "name": name, "dependencies": [*needs]} | method


def prefixed(prefix: str, tasks: list[Json]) -> list[Json]:
    """The tasks under ids that no other tree has."""
    return [
        task
        | {"id": f"{prefix}-{task['id']}", "dependencies": [f"{prefix}-{need}" for need in task["dependencies"]]}
        | ({"parent_id": f"{prefix}-{task['parent_id']}"} if "parent_id" in task else {})
        for task in tasks
    ]


@pytest.fixture(scope="session")
def server(open_server: Server) -> Server:
    return open_server


@pytest.fixture(scope="session")
def _prefixes() -> Iterator[str]:
    return (f"t{number}" for number in count())


@pytest.fixture
def make(server: Server, _prefixes: Iterator[str]) -> Make:
    """Store a tree and return the prefix of its ids; `execute` also runs it."""

    def make(*tasks: Json, execute: bool = False) -> str:
        prefix = next(_prefixes)
        server.rpc("tasks.create", {"tasks": prefixed(prefix, [*tasks]), "execute": execute})
        return prefix

    return make


@pytest.fixture
def finished(server: Server, make: Make) -> Make:
    """The same, and wait for the end of its run."""

    def finished(*tasks: Json) -> str:
        prefix = make(*tasks)
        server.rpc("tasks.execute", {"task_id": f"{prefix}-root", "wait": True})
        return prefix

    return finished


@pytest.fixture(autouse=True)
def patience() -> None:
    """Where many tests run at once, a page may take its time."""
    expect.set_options(timeout=60_000)


@pytest.fixture
def home(page: Page, server: Server) -> Page:
    """The browser, which finds addresses without a host on the server."""
    page.goto(server.url)
    return page


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A narrow screen that is touched."""
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as context:
        yield context.new_page()


@pytest.fixture
def bare(browser: Browser) -> Iterator[Page]:
    """A browser without scripts."""
    with browser.new_context(java_script_enabled=False) as context:
        yield context.new_page()
