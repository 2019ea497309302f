"""Take screenshots of the dashboard for the documentation, from a server started for this purpose.

    python scripts/screenshots.py [FOLDER]

The default folder is docs/images.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import FLAGS, chromium  # noqa: E402  (the folder of the script is first on the path, not ours)
from tests.servers import Server, running_server  # noqa: E402

Json = dict[str, Any]
Scheme = Literal["light", "dark"]
SIZE: Final = ViewportSize(width=1400, height=880)
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
DEMO: Final = "demo/writer"


def task(
    task_id: str, name: str, method: str, *needs: str, parent: str, params: Json | None = None, **inputs: Any
) -> Json:
    schemas = {"method": method}
    task = {"id": task_id, "name": name, "parent_id": parent, "schemas": schemas, "inputs": inputs, "params": params}
    return task | {"dependencies": [*needs]}


def brief(root: str, name: str) -> list[Json]:
    """Return twelve feeds, three summaries, a cross-check, and an approval by the editor."""
    feeds = [f"{root}-feed-{number}" for number in range(1, 13)]
    topics = ("Rates", "Energy", "Chips")
    texts = [f"{root}-{topic.lower()}" for topic in topics]
    return [
        task(root, name, "aggregate_results_executor", f"{root}-publish", parent=""),
        *(
            task(feed, f"Feed {number}", "sleep_executor", parent=root, seconds=0.3 + number % 5 * 0.35, steps=4)
            for number, feed in enumerate(feeds, start=1)
        ),
        *(
            task(
                text,
                f"Summarise: {topic}",
                "llm_executor",
                *feeds[start::3],
                parent=root,
                model=DEMO,
                prompt=f"{topic} in three sentences",
            )
            for start, (text, topic) in enumerate(zip(texts, topics, strict=True))
        ),
        task(f"{root}-check", "Cross-check the figures", "sleep_executor", *texts, parent=root, seconds=1.4, steps=7),
        task(
            f"{root}-draft",
            "Write the brief",
            "llm_executor",
            *texts,
            parent=root,
            model=DEMO,
            prompt="One page for the board",
        ),
        task(
            f"{root}-ask",
            "Ask the editor",
            "approval_executor",
            f"{root}-check",
            f"{root}-draft",
            parent=root,
            question="Publish the brief to all subscribers?",
            options=["Publish", "Send it back"],
        ),
        task(f"{root}-publish", "Publish", "echo_executor", f"{root}-ask", parent=root, channel="newsletter"),
    ]


def flaky(root: str) -> list[Json]:
    """Return a tree with a step that fails three times, and the steps beside and after it."""
    retry = {"retry": {"max_attempts": 3, "backoff_seconds": 1, "backoff_factor": 1.5}}
    return [
        task(root, "Nightly sync", "aggregate_results_executor", f"{root}-load", f"{root}-report", parent=""),
        task(f"{root}-export", "Export orders", "sleep_executor", parent=root, seconds=1.2, steps=6),
        task(
            f"{root}-rates",
            "Fetch exchange rates",
            "rest_executor",
            parent=root,
            params=retry,
            url="https://rates.invalid/latest",
        ),
        task(f"{root}-convert", "Convert currencies", "echo_executor", f"{root}-export", f"{root}-rates", parent=root),
        task(f"{root}-load", "Load the warehouse", "echo_executor", f"{root}-convert", parent=root),
        task(f"{root}-stock", "Count the stock", "sleep_executor", parent=root, seconds=2.4, steps=8),
        task(f"{root}-report", "Stock report", "echo_executor", f"{root}-stock", parent=root),
    ]


def fan(root: str) -> list[Json]:
    """Return three hundred pages and their index."""
    pages = [f"{root}-{number}" for number in range(300)]
    return [
        task(root, "Index 300 pages", "aggregate_results_executor", *pages, parent=""),
        *(
            task(page, f"Page {number}", "sleep_executor", parent=root, seconds=2 + number % 37 / 4, steps=2)
            for number, page in enumerate(pages)
        ),
    ]


def run_figures(server: Server) -> None:
    """Run a flow that completes twice and then fails three times, because an input lacks a field."""
    root = "figures"
    table = {"type": "object", "title": "Table"}
    tasks = [
        task(root, "Monthly figures", "aggregate_results_executor", "sum", parent=""),
        task("load", "Load the orders", "sleep_executor", parent=root, seconds=0.3),
        task("sum", "Sum up", "echo_executor", "load", parent=root, rows="{{run.inputs.table.rows}}"),
    ]
    cleaned = [{name: value for name, value in each.items() if value not in ("", None)} for each in tasks]
    schema = {"type": "object", "properties": {"table": table}, "required": ["table"]}
    server.rpc("flows.save", {"name": "monthly-figures", "tasks": cleaned, "inputs_schema": schema})
    for given in ({"rows": 31}, {"rows": 30}, {}, {}, {}):
        server.rpc("flows.run", {"name": "monthly-figures", "inputs": {"table": given}, "wait": True})
    schedule = {"flow": "monthly-figures", "inputs": {"table": {"rows": 30}}, "name": "Monthly figures"}
    server.rpc("schedules.create", schedule | {"cron": "0 7 1 * *"})


def stored(server: Server, tasks: Sequence[Json], *, wait: bool = False, execute: bool = True) -> str:
    cleaned = [{name: value for name, value in each.items() if value not in ("", None)} for each in tasks]
    root = str(cleaned[0]["id"])
    server.rpc("tasks.create", {"tasks": cleaned})
    if execute:
        server.rpc("tasks.execute", {"task_id": root, "wait": wait, "wait_timeout_seconds": 60})
    return root


@contextmanager
def looking(browser: Browser, server: Server, scheme: Scheme) -> Iterator[Page]:
    with browser.new_context(
        viewport=SIZE, color_scheme=scheme, device_scale_factor=1.5, base_url=server.url
    ) as context:
        yield context.new_page()


def tree(page: Page, task_id: str) -> None:
    page.goto(f"/ui/tasks/{task_id}")
    expect(page.locator("[data-graph] > svg")).to_be_visible()


def take(page: Page, folder: Path, name: str) -> None:
    page.evaluate("document.fonts.ready.then(() => {})")
    page.mouse.move(0, 0)
    page.screenshot(path=folder / f"{name}.png")
    print(folder / f"{name}.png")  # noqa: T201  (the output of the script)


def pictures(browser: Browser, server: Server, folder: Path) -> None:
    with looking(browser, server, "light") as page:
        for root in server.rpc("tasks.list", {}):
            server.rpc("tasks.cancel", {"task_id": root["id"], "force": True})
            server.rpc("tasks.delete", {"task_id": root["id"], "force": True})
        page.goto("/ui/tasks/")
        take(page, folder, "empty")
        run_figures(server)
        stored(server, [task("digest", "Customer digest", "echo_executor", parent="")], execute=False)
        failed = stored(server, flaky("sync"), wait=True)
        first = stored(server, brief("brief-46", "Market brief, week 46"))
        expect_question(page, first)
        page.get_by_role("button", name="Publish").click()
        tree(page, first)
        expect(page.locator("[data-tree-status]")).to_have_text("completed", timeout=30_000)
        pages = stored(server, fan("pages"))
        second = stored(server, brief("brief-47", "Market brief, week 47"))
        tree(page, pages)
        expect(page.locator("[data-done]")).to_have_text(re.compile("^1[0-9][0-9] of 301"), timeout=30_000)
        take(page, folder, "fan-out")
        expect_question(page, second)
        for scheme in SCHEMES:
            with looking(browser, server, scheme) as other:
                other.goto("/")
                take(other, folder, f"home-{scheme}")
                other.goto("/ui/tasks/")
                take(other, folder, f"list-{scheme}")
                tree(other, f"{second}-ask")
                take(other, folder, f"tree-{scheme}")
        tree(page, f"{failed}-rates")
        take(page, folder, "failed")
        tree(page, f"{first}-draft")
        page.locator(".timeline").screenshot(path=folder / "timeline.png")
        page.goto("/ui/inbox/")
        take(page, folder, "inbox")
        page.goto("/ui/new/?executor=rest_executor")
        take(page, folder, "new")


def expect_question(page: Page, root: str) -> None:
    tree(page, f"{root}-ask")
    expect(page.locator("#panel .question")).to_be_visible(timeout=60_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        with running_server(f"sqlite:///{data}/db.sqlite3", data_dir=Path(data)) as server:
            pictures(browser, server, folder)
        browser.close()


if __name__ == "__main__":
    main()
