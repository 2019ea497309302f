"""Large trees in a real browser."""

from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Page, Request

from tests.dashboard.browsing import open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

THOUSAND: Final = 1_000


def test_a_thousand_tasks_take_less_than_a_second_of_work_to_paint(home: Page, server: Server, make: Make) -> None:
    names = [str(number) for number in range(THOUSAND - 1)]
    prefix = make(root("Thousand", *names), *[step(name) for name in names])

    def work_seconds() -> float:
        """What server and browser work for the page: on a machine with nothing else to do no less than what one waits."""
        home.goto("about:blank")
        before = cpu_seconds(server)
        open_tree(home, server, f"{prefix}-root")
        spent = cpu_seconds(server) - before
        assert home.locator("[data-lines] tr[data-n]").count() == THOUSAND
        assert home.locator("[data-graph] [data-task]").count() == THOUSAND
        return spent

    requests: list[str] = []

    def note(request: Request) -> None:
        requests.append(urlsplit(request.url).path)

    home.on("request", note)
    assert min(work_seconds() for _ in range(3)) < 1
    home.remove_listener("request", note)
    last = home.locator("[data-lines] tr[data-n]").last
    assert last.evaluate("(row) => row.checkVisibility({contentVisibilityAuto: true})") is False  # it is not laid out
    asked = [path for path in requests if path.startswith("/ui/")]
    assert asked == [f"/ui/tasks/{prefix}-root", f"/ui/events/next/{prefix}-root"] * 3


def cpu_seconds(server: Server) -> float:
    """Of the server and its worker, and of all processes that this one has started: the browser's."""
    spent = 0.0
    for process in {*server.processes(), *psutil.Process().children(recursive=True)}:
        with suppress(psutil.Error):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent
