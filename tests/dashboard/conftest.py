"""One real server for all browser tests, and trees to show on it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, Error, Page, expect

from tests.admin.conftest import SECRET, create_people, session_of
from tests.browser import PATIENCE_MS, new_page
from tests.servers import Server, environment_of, new_database, running_server

Json = dict[str, Any]
Make = Callable[..., str]
As = Callable[[str], httpx.Client]
PEOPLE: Final = {"root": "admin", "alice": "operator", "bob": "operator", "vera": "viewer"}


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


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with authentication on, and with people. The files that use it run in one process (`tests.distribution`)."""
    folder = tmp_path_factory.mktemp("dashboard")
    with new_database() as database_url:
        create_people(PEOPLE, env=environment_of(database_url, folder))
        with running_server(database_url, env={"AIPARTNERUPFLOW_JWT_SECRET": SECRET}, data_dir=folder) as server:
            yield server


@pytest.fixture(scope="package")
def as_(guarded: Server) -> Iterator[As]:
    """The browser of the user with this name."""
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(session_of(name, guarded)) for name in PEOPLE}
        yield sessions.__getitem__


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
        reply = server.rpc("tasks.execute", {"task_id": f"{prefix}-root", "wait": True})
        assert reply["status"] != "started", reply
        return prefix

    return finished


@pytest.fixture(autouse=True)
def patience() -> None:
    """Where many tests run at once, a page may take its time."""
    expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def _tab(browser: Browser) -> Iterator[Page]:
    with new_page(browser) as page:
        yield page


@pytest.fixture
def home(_tab: Page, server: Server) -> Iterator[Page]:
    """A page of the server without scripts, in the tab of the test before: a new tab takes three times the processor time.

    Nothing of the other test is left. An uncaught JavaScript error on it fails the test.
    """
    _tab.goto(f"{server.url}/health")
    _tab.context.clear_cookies()
    _tab.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
    _tab.mouse.move(0, 0)
    errors: list[Error] = []

    def note(error: Error) -> None:
        errors.append(error)

    _tab.on("pageerror", note)
    yield _tab
    _tab.remove_listener("pageerror", note)
    _tab.unroute_all(behavior="ignoreErrors")
    _tab.emulate_media(color_scheme="null", reduced_motion="reduce")
    assert errors == []


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A narrow screen that is touched."""
    with new_page(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as page:
        yield page


@pytest.fixture
def bare(browser: Browser) -> Iterator[Page]:
    """A browser without scripts."""
    with new_page(browser, java_script_enabled=False) as page:
        yield page
