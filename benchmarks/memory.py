"""Benchmark of memory and idle work: what `serve` takes when it has nothing to do, and what each run and follower adds.

    python -m benchmarks.memory [sqlite] [postgres] [--followers 1000] [--runs 2000]

Starts `aipartnerupflow serve` with one worker process and a new database for each engine. Prints for each process its
resident memory (RSS), the same with its share of what processes share (PSS), the part that it shares with no other
process (USS), and its processor time until the server is ready and while it is idle; then how much the memory of all
processes grows with runs that wait for an answer, with event streams (SSE), and with WebSockets. With `--followers 0`
and `--runs 0` it prints the first table only.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any, Final

from benchmarks.http import MANY_CONNECTIONS, Client, serving_on, task
from benchmarks.live import Watcher
from benchmarks.processes import Process, processes_below

IDLE_SECONDS: Final = 20
SETTLE_SECONDS: Final = 5
OPENED_AT_ONCE: Final = 50


class Server:
    """The processes of a server, which this process has started."""

    def processes(self) -> list[Process]:
        return [process for process in processes_below(os.getpid()) if "postgres" not in process.name.lower()]

    def resident(self) -> float:
        return sum(process.resident for process in self.processes())

    async def growth(self, work: Awaitable[Any]) -> float:
        """By how many MiB all processes together grow from this work."""
        before = self.resident()
        await work
        await asyncio.sleep(SETTLE_SECONDS)
        return self.resident() - before


async def measure(engine: str, port: int, *, runs: int, followers: int) -> None:
    server = Server()
    ready = server.processes()
    await asyncio.sleep(SETTLE_SECONDS)
    before, began = server.processes(), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - began
    idle = {process.pid: process.cpu_now for process in server.processes()}
    print(f"\n| {engine} | RSS, MiB | PSS | USS | CPU s to ready | idle, CPU ms/s |\n|---|---:|---:|---:|---:|---:|")
    sums = [0.0] * 5
    for first, then in zip(ready, before, strict=True):
        used = 1_000 * (idle.get(then.pid, then.cpu_now) - then.cpu_now) / seconds
        figures = [then.resident, then.proportional, then.own, first.cpu, used]
        sums = [total + figure for total, figure in zip(sums, figures, strict=True)]
        print(row(f"`{then.name}`", figures))
    print(row("all", sums), flush=True)
    if not (runs or followers):
        return
    kept: list[Any] = []  # connections, which stay open to the end
    grown: dict[str, tuple[int, Callable[[], Awaitable[Any]]]] = {
        "run that waits for an answer": (runs, lambda: park(port, runs)),
        "event stream (SSE)": (followers, lambda: follow(port, followers, kept)),
        "WebSocket": (followers, lambda: watch(port, followers, kept)),
    }
    await run_one(port, kept)
    print("| each | number | KiB |\n|---|---:|---:|")
    for name, (number, work) in grown.items():
        if number:
            print(f"| {name} | {number:,} | {1024 * await server.growth(work()) / number:.1f} |", flush=True)


def row(name: str, figures: Sequence[float]) -> str:
    resident, proportional, own, cpu, used = figures
    return f"| {name} | {resident:.0f} | {proportional:.0f} | {own:.0f} | {cpu:.2f} | {used:.1f} |"


async def run_one(port: int, kept: list[Any]) -> None:
    """Let everything be imported that is imported at the first use."""
    with closing(await Client.connected(port)) as client:
        await client.rpc("tasks.execute", {"tasks": [task()], "wait": True})
    await park(port, 1)
    await follow(port, 1, kept)
    await watch(port, 1, kept)


async def park(port: int, runs: int) -> None:
    ask = {"name": "ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Publish the report?"}}
    with closing(await Client.connected(port)) as client:
        for _ in range(runs):
            await client.rpc("tasks.execute", {"tasks": [ask]})
        for _ in range(600):
            if (await client.rpc("tasks.running.count", {}))["count"] >= runs:
                return
            await asyncio.sleep(0.2)


async def follow(port: int, followers: int, kept: list[Any]) -> None:
    """Open event streams of a run that waits for an answer."""
    ask = {"name": "ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Publish the report?"}}
    with closing(await Client.connected(port)) as client:
        root = (await client.rpc("tasks.execute", {"tasks": [ask]}))["root_task_id"]
    await _each(followers, lambda: _stream(port, root, kept))


async def _stream(port: int, root: str, kept: list[Any]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /tasks/{root}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    kept.append((reader, writer))


async def watch(port: int, followers: int, kept: list[Any]) -> None:
    await _each(followers, lambda: _socket(port, kept))


async def _socket(port: int, kept: list[Any]) -> None:
    connection = await asyncio.get_running_loop().create_connection(Watcher, "127.0.0.1", port)
    await connection[1].is_open
    kept.append(connection)


async def _each(number: int, make: Callable[[], Awaitable[None]]) -> None:
    for start in range(0, number, OPENED_AT_ONCE):
        await asyncio.gather(*(make() for _ in range(start, min(start + OPENED_AT_ONCE, number))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--followers", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=2_000)
    given = parser.parse_args()
    settings = {"AIPARTNERUPFLOW_WORKER_PROCESSES": "1", **MANY_CONNECTIONS}
    for engine in given.engines:
        with serving_on(engine, settings=settings) as port:
            asyncio.run(measure(engine, port, runs=given.runs, followers=given.followers))
        print(f"\nLoad average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
