"""The part of `python -m benchmarks.models` that asks a whole server: its worker cold, then warm, and with many users' keys.

The provider takes SECONDS for an answer, counts the calls, and answers with a fingerprint of the key that it was sent.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.http import Client, serving_on

CALLS: Final = 100
USERS: Final = 500
SECONDS: Final = 2.0
Json = dict[str, Any]


@dataclass(slots=True)
class Provider:
    """What was asked, and the most calls that were open at once. `keys` counts calls by fingerprint."""

    seconds: float = SECONDS
    calls: int = 0
    is_open: int = 0
    most_open: int = 0
    keys: list[str] = field(default_factory=list)
    text: str = ""
    """The answer, if it is not the fingerprint of the key."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request as OpenAI does, and close."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        sent = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(sent["content-length"]))
        key = head[head.lower().index("authorization: bearer ") + 22 :].split("\r\n", 1)[0]
        self.calls, self.is_open = self.calls + 1, self.is_open + 1
        self.most_open = max(self.most_open, self.is_open)
        self.keys.append(fingerprint(key))
        await asyncio.sleep(self.seconds)
        frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
        choices = [{"index": 0, "delta": {"content": self.text or fingerprint(key)}, "finish_reason": None}]
        last = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        frames = [frame | {"choices": choices}, frame | {"choices": last}, frame | {"choices": [], "usage": usage}]
        body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in frames) + b"data: [DONE]\n\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body)
        self.is_open -= 1
        await writer.drain()
        writer.close()


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@asynccontextmanager
async def provided(provider: Provider) -> AsyncIterator[str]:
    """Serve on loopback. Yields the address."""
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0, backlog=1000)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


class Caller(Client):
    """A client that sends a key of its own."""

    async def ask_model(self, key: str) -> str:
        """Run one task that calls the model with this key. Returns the content, or why the task failed."""
        task = {"name": "ask", "schemas": {"method": "llm_executor"}, "inputs": {"prompt": "Hi"}}
        plain, self._head = self._head, f"{self._head}X-LLM-API-KEY: openai:{key}\r\n"
        try:
            reply = await self.rpc("tasks.execute", {"tasks": [task], "wait": True, "wait_timeout_seconds": 120})
        finally:
            self._head = plain
        result: Json = reply["task"]["result"] or {}
        return str(result.get("content") or reply["task"]["error"])


async def ask_all(port: int, keys: list[str], *, at_once: int) -> tuple[float, int]:
    """Return the seconds from the first request to the last answer, and how many answers were not that of the own key."""
    places = asyncio.Semaphore(at_once)

    async def one(key: str) -> bool:
        async with places:
            client = await Caller.connected(port)
            assert isinstance(client, Caller)
            said = await client.ask_model(key)
            client.close()
        return said != fingerprint(key)

    began = time.perf_counter()
    wrong = await asyncio.gather(*map(one, keys))
    return time.perf_counter() - began, sum(wrong)


async def measure(engine: str) -> None:
    """Print a table: a cold worker, a warm one, and the keys of many users."""
    provider = Provider()
    async with provided(provider) as address:
        settings = {
            "AIPARTNERUPFLOW_LLM_API_BASE": f"openai={address}",
            "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "openai/gpt-4o-mini",
        }
        with ExitStack() as stack:
            port = await asyncio.to_thread(stack.enter_context, serving_on(engine, settings=settings))
            print(f"| {engine} | seconds | calls | most at once | wrong answers |\n|---|---:|---:|---:|---:|")
            rows = (("cold", CALLS, CALLS), ("warm", CALLS, CALLS), ("keys of 500 users", USERS, USERS))
            for name, count, at_once in rows:
                provider.calls = provider.most_open = 0
                keys = [f"sk-{name.split()[0]}-{number:032x}" for number in range(count)]
                seconds, wrong = await ask_all(port, keys, at_once=at_once)
                print(f"| {name} | {seconds:.1f} | {provider.calls} | {provider.most_open} | {wrong} |", flush=True)
