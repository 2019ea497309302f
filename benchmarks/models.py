"""Benchmark of model calls: how many parts of answers a worker process reads, and what its loop notices of that.

    python -m benchmarks.models

A provider in a process of its own streams answers as OpenAI does, a token in each part, over real
HTTP. Flood: 32 answers of 2,000 parts, as fast as they are taken. Paced: 100 answers at once, each
with 50 parts a second, for 10 seconds. The loop of this process stands for a worker's: a bystander
sleeps for 5 ms again and again, and the delay is by how much too late it wakes. `plain` is LiteLLM on
that loop, as a program would call it.

Then a whole server: 100 calls that take 2 s, of a worker that has called no model yet and of one that has, and 500 users at once,
each with a key of its own (`benchmarks.model_server`). Prints tables for docs/benchmarks.md.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

from benchmarks import model_server

FLOOD: Final = {"streams": 32, "parts": 2_000, "each_second": 0}
PACED: Final = {"streams": 100, "parts": 500, "each_second": 50}
NAP_SECONDS: Final = 0.005
TOKEN: Final = "w{:03d} "
Ask = Callable[[str], Coroutine[Any, Any, int]]


# --- the provider ---


def serve(port: Any) -> None:
    asyncio.run(_provide(port))


async def _provide(port: Any) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1000)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The model's name says how: `<parts>-<each second>`."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = json.loads(await reader.readexactly(length))
    parts, each_second = map(int, body["model"].split("-"))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    tokens = _tokens(body["model"])
    for number in range(parts):
        writer.write(tokens[number % len(tokens)])
        await writer.drain()
        if each_second:
            await asyncio.sleep(1 / each_second)
    writer.write(_event(frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    usage = {"prompt_tokens": 1, "completion_tokens": parts, "total_tokens": parts + 1}
    writer.write(_event(frame | {"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()


@cache
def _tokens(model: str) -> list[bytes]:
    """Different ones: LiteLLM stops an answer that repeats itself."""
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
    texts = [TOKEN.format(number) for number in range(1000)]
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    return [_event(frame | {"choices": [choice]}) for choice in choices]


def _event(frame: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(frame).encode() + b"\n\n"


# --- the callers ---


async def ours(model: str) -> int:
    """Ask as the executors do. Returns the number of characters that were heard."""
    from tasks.executors.llm.litellm_calls import ask
    from tasks.executors.llm.prompt import Prompt

    heard: list[int] = []
    prompt = Prompt(
        model=f"openai/{model}", messages=[{"role": "user", "content": "Hi"}], run_id="run-1", user_id="alice"
    )
    await ask(prompt, heard=lambda text: heard.append(len(text)), spent=lambda usage: None)
    return sum(heard)


def plain(address: str) -> Ask:
    async def ask(model: str) -> int:
        import litellm

        heard = 0
        stream: Any = await litellm.acompletion(
            model=f"openai/{model}",
            messages=[{"role": "user", "content": "Hi"}],
            api_key="none",
            api_base=address,
            stream=True,
        )
        async for chunk in stream:
            heard += len(chunk.choices[0].delta.content or "")
        return heard

    return ask


@asynccontextmanager
async def bystander(delays: list[float]) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(NAP_SECONDS)
            delays.append(time.perf_counter() - started - NAP_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def measured(ask: Ask, *, streams: int, parts: int, each_second: int) -> dict[str, float]:
    delays: list[float] = []
    cpu = _cpu_seconds()
    started = time.perf_counter()
    async with bystander(delays):
        heard = await asyncio.gather(*(ask(f"{parts}-{each_second}") for _ in range(streams)))
    seconds = time.perf_counter() - started
    if set(heard) != {parts * len(TOKEN.format(0))}:
        raise RuntimeError(f"not every answer was heard: {sorted(set(heard))}")
    return {
        "rate": streams * parts / seconds,
        "cpu_us": (_cpu_seconds() - cpu) / (streams * parts) * 1e6,
        "p99_ms": statistics.quantiles(delays, n=100)[98] * 1e3,
        "max_ms": max(delays) * 1e3,
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(address: str) -> None:
    from llmkeys.resolve import Credentials
    from llmkeys.secret import Secret
    from tasks.executors.llm import litellm_calls

    def granted(**_: object) -> Credentials:
        return Credentials(provider="openai", api_key=Secret("benchmark-key"), api_base=address, source="user")

    setattr(litellm_calls, "credentials", granted)  # noqa: B010  (it is imported there)
    await ours("10-0")
    print("| | parts/s | CPU µs a part | loop delay p99 ms | max ms |\n|---|---:|---:|---:|---:|")
    for name, load in (("flood", FLOOD), ("paced", PACED)):
        found = {"ours": await measured(ours, **load), "plain": await measured(plain(address), **load)}
        for caller, figures in found.items():
            shown = " | ".join(f"{value:,.0f}" for value in figures.values())
            print(f"| {name}, {caller} | {shown} |")
        ratios = {figure: found["ours"][figure] / found["plain"][figure] for figure in found["ours"]}
        print(f"| {name}, ratio | {' | '.join(f'{value:.2f}' for value in ratios.values())} |")


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ |= {"DJANGO_SETTINGS_MODULE": "apflow_site.settings", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ours_end, theirs = multiprocessing.Pipe()
    provider = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    provider.start()
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder:
        os.environ["AIPARTNERUPFLOW_DATA_DIR"] = folder
        import django

        django.setup()
        asyncio.run(measure(f"http://127.0.0.1:{ours_end.recv()}/v1"))
    provider.terminate()
    asyncio.run(model_server.measure("sqlite"))


if __name__ == "__main__":
    main()
