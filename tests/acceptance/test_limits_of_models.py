"""Calls of models against a provider that enforces a rate of requests and of tokens, and counts: none is refused, and nothing is wasted.

Eight workers, 3,000 calls and five minutes are the full size (LIMITS_WORKERS, LIMITS_CALLS): by default it is two workers and 900 calls. The
limits keep 1.02 of the rate, and use 0.95. A busy machine delays requests and looks, so the provider refuses from LIMITS_TOLERANCE on, and
LIMITS_LEAST have to be used: set them to 1.02 and 0.95 on one without other work.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.fork_server import MODELS
from tests.ports import free_port
from tests.servers import new_database, running_server

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


@contextmanager
def provider() -> Iterator[Strict]:
    found = Strict(free_port())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            size = SIZES[int(asked["messages"][-1]["content"].split()[-1]) % len(SIZES)]
            if not found.take(PROMPT + size):
                self.reply(429, {"error": {"message": "Too many.", "type": "rate_limit_error"}})
                return
            message = {"role": "assistant", "content": "Yes."}
            usage = {"prompt_tokens": PROMPT, "completion_tokens": size, "total_tokens": PROMPT + size}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "usage": usage}
            self.reply(200, whole | {"choices": [choice]})

        def reply(self, status: int, content: Json) -> None:
            body = json.dumps(content).encode()
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

    server = Server(("127.0.0.1", found.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


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


def _minutes(calls: list[tuple[float, int]]) -> Iterator[list[int]]:
    """Yield the tokens of the calls of each minute that ends with one."""
    assert all(first <= second for (first, _), (second, _) in pairwise(calls))
    start = 0
    for end, (now, _) in enumerate(calls):
        while calls[start][0] <= now - MINUTE:
            start += 1
        yield [tokens for _, tokens in calls[start : end + 1]]
