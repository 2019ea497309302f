"""Benchmark of a tree's page in Chromium: large trees, opened at rest and while their run is live.

    python -m benchmarks.pages [TASKS ...] [--rounds 3]

Starts `aipartnerupflow serve` with a new SQLite database, creates trees of 100, 2,000 and 10,000 tasks
in 20 layers, and opens each in a new tab. Prints the medians of the rounds:

- first paint and interactive: milliseconds from the navigation; interactive is the end of the last
  task of the main thread that took over 50 ms, at least until the graph is drawn,
- HTML and nodes: the size of the page before compression, and the number of its elements,
- on the wire: the bytes of all responses as sent, with an empty cache,
- longest task: the longest task of the main thread while the page is open for five seconds of a run
  whose tasks start and end all the time,
- event p50 and p95: from the time of each event of these seconds, which a worker takes before it
  writes the event to the database, to the frame that shows it in the list of events.

Browser, server and worker share the machine; the load average is printed with the figures.

    python -m benchmarks.pages --home [RUNS] [--folder FOLDER]

Fills databases of both engines with a million runs of the last thirty days, and prints for the last hour, day and week how
much processor time the home page takes: of an administrator and of a user with half of the runs, in the service and, of an
administrator, the whole page. It is that of this process and of the processes of PostgreSQL, which depends less on other
work than the time that passes. The databases stay in FOLDER; the newest runs are of when they were made.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.http import serving_at
from benchmarks.scale.databases import figures_of, set_up, table

LAYERS: Final = 20
LIVE_MS: Final = 5_000
QUIET_MS: Final = 1_000
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WATCH: Final = """
window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map(({startTime, duration}) => [startTime, duration])))
  .observe({type: "longtask", buffered: true});
"""
WATCH_EVENTS: Final = """() => {
  window.delays = [];
  const drawn = (times) => requestAnimationFrame(() => setTimeout(() => delays.push(...times.map((time) => Date.now() - time))));
  const timeOf = (item) => Date.parse(item.querySelector("time").dateTime);
  new MutationObserver((changes) => drawn(changes.flatMap(({ addedNodes }) => [...addedNodes].map(timeOf))))
    .observe(document.querySelector("[data-log]"), { childList: true });
}"""
FIGURES: Final = """() => {
  const graph = performance.getEntriesByName("graph")[0]?.startTime ?? 0;
  return {
    first_paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
    interactive: Math.max(graph, ...longTasks.map(([start, duration]) => start + duration)),
    html: performance.getEntriesByType("navigation")[0].decodedBodySize / 1024,
    nodes: document.querySelectorAll("*").length,
  };
}"""


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-headless-shell")


def tree_of(count: int, *, prefix: str, seconds: float) -> list[dict[str, Any]]:
    """Return a root and tasks in layers. Each task needs two of the layer before."""
    width = (count - 1) // LAYERS or 1
    tasks: list[dict[str, Any]] = [{"id": prefix, "name": f"{count:,} tasks"}]
    for number in range(count - 1):
        layer, place = divmod(number, width)
        needs = {(layer - 1) * width + place, (layer - 1) * width + (place + 7) % width} if layer else set()
        tasks.append(
            {
                "id": f"{prefix}-{number}",
                "name": f"Step {number} of layer {layer}",
                "parent_id": prefix,
                "schemas": {"method": "sleep_executor"},
                "inputs": {"seconds": seconds},
                "dependencies": [f"{prefix}-{each}" for each in sorted(needs)],
            }
        )
    return tasks


def call(port: int, method: str, **params: Any) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = httpx.post(f"http://127.0.0.1:{port}/tasks", json=request, timeout=60).json()
    assert "error" not in reply, reply


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[tuple[Page, dict[str, float]]]:
    """Open the page in a new profile, and yield it with its figures once it is quiet."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        page.add_init_script(WATCH)
        session = context.new_cdp_session(page)
        sizes: list[float] = []
        session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        session.send("Network.enable")
        page.goto(address, wait_until="load")
        page.wait_for_selector("[data-graph] > svg")
        page.wait_for_timeout(QUIET_MS)
        yield page, page.evaluate(FIGURES) | {"on_the_wire": sum(sizes) / 1024}


def measured(browser: Browser, port: int, count: int, rounds: int) -> dict[str, float]:
    prefix = f"tree-{count}"
    address = f"http://127.0.0.1:{port}/ui/tasks/{prefix}"
    every = []
    for _ in range(rounds):
        with opened(browser, address) as (_, figures):
            every.append(figures)
    call(port, "tasks.execute", task_id=prefix)
    with opened(browser, address) as (page, live):
        page.evaluate(WATCH_EVENTS)
        page.wait_for_timeout(LIVE_MS)
        tasks, delays = page.evaluate("longTasks"), page.evaluate("delays")
    longest = max((duration for start, duration in tasks if start > live["interactive"]), default=0)
    call(port, "tasks.cancel", task_ids=[prefix])
    percentiles = quantiles(delays, n=100, method="inclusive")
    events = {"event_p50": percentiles[49], "event_p95": percentiles[94]}
    return {name: median(each[name] for each in every) for name in every[0]} | {"longest_task": longest} | events


def measure_home(runs: int) -> None:
    """Run in a process of its own, on the configured database; print the milliseconds as JSON."""
    set_up()
    from django.test import Client

    from accounts.callers import LOCAL
    from benchmarks.scale import questions, rows
    from tasks.models import Run
    from tasks.services.history.run_counts import count_hours
    from tasks.services.upkeep.home import SPANS, home

    if not Run.objects.exists():
        rows.fill_home(runs)
    count_hours(give_up_at=inf)
    browser = Client(headers={"host": "localhost"})
    assert browser.get("/?since=1h").status_code == 200
    asked: dict[str, Callable[[], Any]] = {
        f"{name}, {span}": partial(home, caller=caller, since=span)
        for name, caller in (("administrator", LOCAL), ("user with half of the runs", questions.LARGE))
        for span in SPANS
    }
    asked |= {f"the whole page, {span}": partial(browser.get, f"/?since={span}") for span in SPANS}
    print(json.dumps({name: processor_ms(question) for name, question in asked.items()}))


def processor_ms(question: Callable[[], Any], *, times: int = 25) -> float:
    """Return the median processor time of this process, and the mean of the database's processes."""
    figures = list[float]()
    question()
    before = _of_postgres()
    for _ in range(times):
        begun = process_time()
        question()
        figures.append(process_time() - begun)
    return (median(figures) + (_of_postgres() - before) / times) * 1_000


def _of_postgres() -> float:
    """Return the seconds of processor time of the sessions of the database so far; 0 for SQLite."""
    from django.db import connection

    if connection.vendor == "sqlite":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        times = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for (pid,) in cursor.fetchall()
        ]
    return sum(int(each) for pair in times for each in pair) / os.sysconf("SC_CLK_TCK")


def compare_homes(runs: int, folder: Path | None) -> None:
    with TemporaryDirectory() as temporary:
        engines = ["sqlite", "postgres"]
        found = {
            (each, runs): figures_of("benchmarks.pages", each, runs, folder=folder or Path(temporary))
            for each in engines
        }
    print(table(found, engines, [runs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", type=int, default=[100, 2_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--home", nargs="?", type=int, const=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_home(arguments.measure)
        return
    if arguments.home:
        compare_homes(arguments.home, arguments.folder)
        return
    print(
        "| tasks | first paint ms | interactive ms | HTML KB | nodes | on the wire KB | longest task live ms | event p50 ms "
        "| event p95 ms |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    with TemporaryDirectory() as folder, serving_at(None, folder=folder) as port:
        for count in arguments.tasks:
            call(port, "tasks.create", tasks=tree_of(count, prefix=f"tree-{count}", seconds=0.5))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=_chromium(), args=list(FLAGS))
            for count in arguments.tasks:
                figures = measured(browser, port, count, arguments.rounds)
                print(
                    f"| {count:,} | " + " | ".join(f"{figure:,.0f}" for figure in figures.values()) + " |", flush=True
                )
            browser.close()
    print(f"\nLoad average: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
