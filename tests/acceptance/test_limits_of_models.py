"""Calls of models against providers that enforce a rate of requests and of tokens, and count: none is refused, and nothing is wasted.

Eight workers, 3,000 calls and five minutes are the full size (LIMITS_WORKERS, LIMITS_CALLS): by default it is two workers and 900 calls. The
limits keep 1.02 of the rate, and use 0.95. A busy machine delays requests and looks, so the provider refuses from LIMITS_TOLERANCE on, and
LIMITS_LEAST have to be used: set them to 1.02 and 0.95 on one without other work.
"""

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fork_server import MODELS
from tests.otlp import collector, receiving
from tests.ports import free_port
from tests.servers import new_database, running_server, until

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.nightly]

REQUESTS: Final = 600
TOKENS: Final = 200_000
WORKERS: Final = int(os.environ.get("LIMITS_WORKERS", "2"))
CALLS: Final = int(os.environ.get("LIMITS_CALLS", "900"))
SIZES: Final = (60, 120, 240, 480)
"""The tokens of the answers, in turn. With the prompts, 900 of them are about 220,000."""
PROMPT: Final = 20
LEAST: Final = float(os.environ.get("LIMITS_LEAST", "0.8"))
TOLERANCE: Final = float(os.environ.get("LIMITS_TOLERANCE", "1.05"))
MINUTE: Final = 60.0
Json = dict[str, Any]


@dataclass(slots=True)
class Strict:
    """Allows TOLERANCE of its rates in any minute: it looks at the minute that ends with each request."""

    port: int
    calls: list[tuple[float, int]] = field(default_factory=list)
    """When each began, and its tokens."""
    refused: int = 0
    connections: set[socket.socket] = field(default_factory=set)
    server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, tokens: int) -> bool:
        with self._lock:
            now = time.monotonic()
            lately = [each for at, each in self.calls if at > now - MINUTE]
            if len(lately) + 1 > TOLERANCE * REQUESTS or sum(lately) + tokens > TOLERANCE * TOKENS:
                self.refused += 1
                return False
            self.calls.append((now, tokens))
            return True

    def die(self) -> None:
        """As a process that is killed: its connections break, also in the middle of an answer, and no new one is accepted."""
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            with suppress(OSError):  # it has just closed by itself
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def provider() -> Iterator[Strict]:
    found = Strict(free_port())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            found.connections.add(self.connection)

        def finish(self) -> None:
            found.connections.discard(self.connection)
            with suppress(OSError):  # `die` has cut it
                super().finish()

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            last = asked["messages"][-1]
            number = next((int(word) for word in str(last["content"]).split() if word.isdecimal()), 0)
            size = SIZES[number % len(SIZES)]
            if not found.take(PROMPT + size):
                self.reply(429, {"error": {"message": "Too many.", "type": "rate_limit_error"}})
                return
            message: Json = {"role": "assistant", "content": "Yes."}
            reason = "stop"
            if asked.get("tools") and last["role"] != "tool":
                call = {"name": asked["tools"][0]["function"]["name"], "arguments": json.dumps({"city": "Rome"})}
                message |= {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]}
                reason = "tool_calls"
            usage = {"prompt_tokens": PROMPT, "completion_tokens": size, "total_tokens": PROMPT + size}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": asked["model"], "usage": usage}
            self.reply(200, whole | {"choices": [choice]})

        def reply(self, status: int, content: Json) -> None:
            body = json.dumps(content).encode()
            with suppress(OSError):  # `die` has cut it
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 512
        daemon_threads = True

    found.server = Server(("127.0.0.1", found.port), Handler)
    threading.Thread(target=found.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield found
    finally:
        found.die()


def tree(number: int, calls: range) -> list[Json]:
    root = f"t{number}"
    leaves = [
        {
            "id": f"{root}-{call}",
            "name": "Ask",
            "parent_id": root,
            "schemas": {"method": "llm_executor"},
            "inputs": {
                "model": "openai/gpt-4o-mini",
                "prompt": f"Say yes {call}",
                "max_tokens": SIZES[call % len(SIZES)],
            },
        }
        for call in calls
    ]
    return [{"id": root, "name": "Tree"}, *leaves]


@pytest.mark.timeout(3600)
def test_calls_use_what_a_strict_provider_allows_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    match = {"match": {"provider": "openai"}}
    limits = {"openai": match | {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS}}
    with provider() as strict, new_database() as url:
        env = {
            MODELS: "yes",
            "AIPARTNERUPFLOW_LIMITS_SHARED": json.dumps(limits),
            "AIPARTNERUPFLOW_WORKER_PROCESSES": str(WORKERS),
            "AIPARTNERUPFLOW_LLM_API_BASE": f"openai=http://127.0.0.1:{strict.port}/v1",
            "OPENAI_API_KEY": "sk-of-the-server-0123456789",
        }
        with running_server(url, env=env) as server:
            for number, first in enumerate(range(0, CALLS, 300)):
                server.rpc("tasks.execute", {"tasks": tree(number, range(first, min(CALLS, first + 300)))})
            ended = [server.finished(f"t{number}")[-1]["status"] for number in range(-(-CALLS // 300))]
            attempts = server.query("SELECT MAX(attempt) FROM tasks_task")
    times = [at for at, _ in strict.calls]
    seconds = times[-1] - times[0]
    used = max(len(times) / REQUESTS, sum(tokens for _, tokens in strict.calls) / TOKENS) / (seconds / MINUTE)
    peaks = [(len(found) / REQUESTS, sum(found) / TOKENS) for found in _minutes(strict.calls)]
    most = max(max(peak) for peak in peaks)
    with capsys.disabled():
        text = f"{len(times)} calls in {seconds:.1f} s: {used:.3f} of the rate, at most {most:.3f} in a minute"
        print(f"\n{WORKERS} workers, {text}, {strict.refused} refused")  # noqa: T201
    assert (set(ended), strict.refused, attempts) == ({"completed"}, 0, [(1,)])
    assert len(times) == CALLS
    assert most <= TOLERANCE
    assert used >= LEAST


def map_of_calls(root: str) -> list[Json]:
    """A map of CALLS calls, each with a second model and a cache, and an agent with a tool that sums up."""
    params = {"cache": "1d", "fallback": {"on": ["connection"]}}
    models = ["openai/gpt-4o-mini", "house/small"]
    llm = {"schemas": {"method": "llm_executor"}, "params": params}
    ask = {"model": models, "stream": False}
    each = {"items": list(range(CALLS)), "max_items": CALLS, "max_parallel": 200}
    return [
        {"id": root, "name": "Report", "dependencies": [f"{root}-map"]}
        | llm
        | {"inputs": ask | {"prompt": "Sum up 0 .", "tools": ["weather"], "max_tokens": 60}},
        {"id": f"{root}-map", "name": "Each", "parent_id": root, "params": {"for_each": each}},
        {"id": f"{root}-ask", "name": "Ask", "parent_id": f"{root}-map"}
        | llm
        | {"inputs": ask | {"prompt": "Say yes to {{item}} .", "max_tokens": max(SIZES)}},
    ]


@pytest.mark.timeout(3600)
def test_a_map_outlives_its_provider_takes_half_the_time_from_the_cache_and_is_one_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS}
    limits = {name: {"match": {"provider": name}} | rates for name in ("openai", "house")}
    with (
        provider() as first,
        provider() as second,
        receiving() as received,
        collector(received, tmp_path) as (otlp, _),
        new_database() as url,
    ):
        addresses = {"openai": first.port, "house": second.port}
        env = {
            MODELS: "yes",
            "AIPARTNERUPFLOW_LIMITS_SHARED": json.dumps(limits),
            "AIPARTNERUPFLOW_WORKER_PROCESSES": str(WORKERS),
            "AIPARTNERUPFLOW_LLM_API_BASE": ",".join(
                f"{n}=http://127.0.0.1:{port}/v1" for n, port in addresses.items()
            ),
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.agent_tools",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "AGENT_CALLS": str(tmp_path / "calls"),
            "OPENAI_API_KEY": "sk-of-the-server-0123456789",
            "HOUSE_API_KEY": "sk-of-the-house-0123456789",
        }
        with running_server(url, env=env) as server:
            began = time.monotonic()
            server.rpc("tasks.execute", {"tasks": map_of_calls("one")})
            until(lambda: len(first.calls) >= CALLS // 2, seconds=1200, what="half of the calls")
            first.die()
            ended = [server.finished("one")[-1]["status"]]
            bought = time.monotonic() - began
            calls = len(second.calls)
            began = time.monotonic()
            server.rpc("tasks.execute", {"tasks": map_of_calls("two")})
            ended.append(server.finished("two")[-1]["status"])
            cached = time.monotonic() - began
            results = dict(server.query("SELECT id, result FROM tasks_task WHERE id IN ('one-map', 'two-map')"))
            attempts = server.query("SELECT MAX(attempt) FROM tasks_task")
        run = received.named("run", **{"apflow.root_task.id": "one"})  # the server has ended, so all are sent
    spans = [each for each in received.spans if each["trace"] == run["trace"]]
    kinds = Counter((each["name"], each["is_error"]) for each in spans)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{WORKERS} workers: {CALLS} calls in {bought:.1f} s, {len(first.calls)} by the first provider and {calls} by the second;"
            f" from the cache {cached:.1f} s; {len(spans)} spans"
        )
    assert (ended, attempts) == (["completed", "completed"], [(1,)])
    assert (first.refused, second.refused) == (0, 0)
    assert len(second.calls) == calls  # the second run called no model
    assert results["one-map"] == results["two-map"]
    assert cached < bought / 2
    agent = next(each for each in spans if each["name"] == "invoke_agent Report")
    below = Counter(each["name"] for each in spans if each["parent"] == agent["id"])
    assert (agent["parent"], agent["is_error"]) == (run["id"], False)
    assert below["chat small"] == 2
    assert below["execute_tool weather"] == 1
    assert kinds["chat small", False] == calls
    assert kinds["chat small", False] + kinds["chat gpt-4o-mini", False] == CALLS + 2
    assert kinds["chat gpt-4o-mini", True] == kinds["chat small", False]  # each was asked of the first one before


def _minutes(calls: list[tuple[float, int]]) -> Iterator[list[int]]:
    """Yield the tokens of the calls of each minute that ends with one."""
    assert all(first <= second for (first, _), (second, _) in pairwise(calls))
    start = 0
    for end, (now, _) in enumerate(calls):
        while calls[start][0] <= now - MINUTE:
            start += 1
        yield [tokens for _, tokens in calls[start : end + 1]]
