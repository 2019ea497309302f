"""Large trees in a real browser."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Page, Request, expect

from tasks.dashboard.picture import LINES, WHOLE
from tests.dashboard.browsing import SCHEMES, STATUSES, barriers, line, open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

THOUSAND: Final = 1_000
MANY: Final = WHOLE + 100
CAUSE: Final = "700"
MOST_BYTES: Final = 60_000
MOST_NODES: Final = 3_000


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


def test_of_a_large_tree_only_what_is_in_view_exists_and_it_opens_at_its_first_cause(
    home: Page, server: Server, make: Make, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    names = [str(number) for number in range(MANY)]
    steps = [step(name, gate=str(gate), then="fail") if name == CAUSE else step(name, CAUSE) for name in names]
    prefix = make(root("Large and broken"), *steps, execute=True)
    open_tree(home, server, f"{prefix}-{CAUSE}")
    done, rows, panel = home.locator("[data-done]"), home.locator("[data-lines] tr[data-n]"), home.locator("#panel")
    expect(done).to_have_text(f"0 of {MANY + 1:,} tasks")
    gate.touch()
    expect(home.locator(STATUSES)).to_have_text("failed")
    expect(done).to_have_text(f"1 completed · 1 failed · {MANY - 1:,} not run")
    expect(line(home, "Step 701").locator(".status-icon")).to_have_attribute("aria-label", "not run")

    assert len(server.http.get(f"/ui/tasks/{prefix}-root").content) < MOST_BYTES
    assert server.http.get(f"/ui/growth/{prefix}-root?from=second").status_code == 400
    open_tree(home, server, f"{prefix}-root")
    expect(panel.locator("h2")).to_contain_text(f"Step {CAUSE}")
    expect(rows).to_have_count(LINES)
    lines = home.locator("[data-lines]")
    lines.scroll_into_view_if_needed()
    expect(line(home, f"Step {CAUSE}")).to_be_in_viewport()
    assert home.locator("*").count() < MOST_NODES
    expect(lines.locator("table")).to_have_attribute("aria-rowcount", str(MANY + 2))
    assert [found for scheme in SCHEMES for found in barriers(home, scheme)] == []

    lines.evaluate("each => { each.scrollTop = each.scrollHeight; }")
    last, before = line(home, f"Step {names[-1]}"), line(home, f"Step {names[-2]}")
    expect(last).to_have_attribute("aria-rowindex", str(MANY + 2))
    expect(rows).to_have_count(LINES)
    last.get_by_role("link").click()
    expect(panel.locator(".cause")).to_contain_text(f"Step {CAUSE}")
    expect(home.locator(f"[data-graph] [data-task='{prefix}-{names[-1]}']")).to_have_class(re.compile("selected"))
    last.get_by_role("link").focus()
    home.keyboard.press("k")
    expect(panel.locator("h2")).to_contain_text(f"Step {names[-2]}")
    expect(before).to_have_class(re.compile("selected"))
    expect(before.get_by_role("link")).to_be_focused()
    home.locator(f"[data-graph] [data-task='{prefix}-{CAUSE}']").click()
    expect(line(home, f"Step {CAUSE}")).to_have_class(re.compile("selected"))


def cpu_seconds(server: Server) -> float:
    """Of the server and its worker, and of all processes that this one has started: the browser's."""
    spent = 0.0
    for process in {*server.processes(), *psutil.Process().children(recursive=True)}:
        with suppress(psutil.Error):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent
