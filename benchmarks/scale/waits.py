"""Benchmark of parked waits: what 100,000 of them cost, how late they end, and how long an event takes to wake one.

    python -m benchmarks.scale.waits [sqlite|postgres] [--waits 100000] [--due 6000] [--events 200]

Each wait is a run of its own. Starts `aipartnerupflow serve` with one worker process, first with a database without
waits. Prints the processor time of all its processes while nothing happens; then, of waits that end one after the other
within a minute, by how much each task completed after its time; then the time from an event to the end of the task
that it woke, and that of `events.send` itself.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.http import Client, postgres, serving_at
from benchmarks.memory import Server
from benchmarks.scale.databases import set_up

IDLE_SECONDS: Final = 30
SETTLE_SECONDS: Final = 8
DUE_SECONDS: Final = 60
LEAD_SECONDS: Final = 30
"""For the statements that make waits end, before the first of them does."""


def idle_ms_per_second() -> float:
    """The processor time of all processes of the server while nothing happens."""
    time.sleep(SETTLE_SECONDS)
    server = Server()
    before, began = {each.pid: each.cpu for each in server.processes()}, time.monotonic()
    time.sleep(IDLE_SECONDS)
    used = sum(each.cpu - before.get(each.pid, each.cpu) for each in server.processes())
    return 1_000 * used / (time.monotonic() - began)


def seconds_late(waits: int) -> list[float]:
    """By how much the tasks of waits completed after their time, in the order of those times."""
    from benchmarks.scale import rows
    from tasks.models import Question, Task

    first = datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS)
    rows.set_due(waits, after=first, seconds=DUE_SECONDS)
    assert datetime.now(UTC) < first, "the waits could not be changed in time"
    waiting = Question.objects.filter(kind="time").order_by("expires_at").values_list("task_id", "expires_at")
    due = {task_id: at for task_id, at in waiting if at is not None}
    time.sleep(LEAD_SECONDS + DUE_SECONDS + SETTLE_SECONDS)
    ended = Task.objects.filter(executor_id="wait_executor", status="completed").values_list("id", "completed_at")
    done = {task_id: at for task_id, at in ended if at is not None}
    assert done.keys() == due.keys(), f"{len(due) - len(done):,} waits have not ended"
    return [(done[task_id] - at).total_seconds() for task_id, at in due.items()]


async def of_events(port: int, events: int) -> tuple[list[float], list[float]]:
    """The seconds that `events.send` took, and those from the event to the end of the task, one after the other."""
    from benchmarks.scale.rows import WAITED_EVENT

    client, sent, ended = await Client.connected(port), list[float](), list[float]()
    for task_id in await asyncio.to_thread(_some_waiting, events):
        began = time.perf_counter()
        reply = await client.rpc("events.send", {"event": WAITED_EVENT, "payload": {"order_id": task_id}})
        sent.append(time.perf_counter() - began)
        assert reply["woken"] == 1
        while (status := (await client.rpc("tasks.get", {"task_id": task_id}))["status"]) == "in_progress":  # noqa: ASYNC110  (as a client polls)
            await asyncio.sleep(0.002)
        assert status == "completed", status
        ended.append(time.perf_counter() - began)
    client.close()
    return sent, ended


def _some_waiting(events: int) -> list[str]:
    from tasks.models import Question

    waiting = Question.objects.filter(kind="event", closed_at=None)
    return list(waiting.order_by("-digest").values_list("task_id", flat=True)[:events])


def shown(seconds: Sequence[float]) -> str:
    parts = quantiles(seconds, n=100)
    return " | ".join(f"{1_000 * each:,.0f}" for each in (parts[49], parts[94], parts[98], max(seconds)))


def measure(engine: str, *, waits: int, due: int, events: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(postgres(folder)) if engine == "postgres" else None
        os.environ["AIPARTNERUPFLOW_DATA_DIR"] = str(folder)
        if url is not None:
            os.environ["AIPARTNERUPFLOW_DATABASE_URL"] = url
        set_up()
        from benchmarks.scale import rows

        with serving_at(url, folder=str(folder)):
            none = idle_ms_per_second()
        rows.park_waits(waits)
        with serving_at(url, folder=str(folder)) as port:
            many = idle_ms_per_second()
            late = seconds_late(due)
            sent, ended = asyncio.run(of_events(port, events))
    print(f"\n{engine}: idle {none:.1f} ms/s of processor time without waits, {many:.1f} ms/s with {waits:,}\n")
    print("| milliseconds | p50 | p95 | p99 | max |\n|---|---:|---:|---:|---:|")
    print(f"| a task completes after its time, of {due:,} | {shown(late)} |")
    print(f"| `events.send` | {shown(sent)} |")
    print(f"| from the event to the end of the task | {shown(ended)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="?", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--waits", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=6_000)
    parser.add_argument("--events", type=int, default=200)
    given = parser.parse_args()
    measure(given.engine, waits=given.waits, due=given.due, events=given.events)
    print(f"Load average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
