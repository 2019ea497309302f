"""Benchmark of telemetry: W1 and W3 of `benchmarks.engine`, in turns with an OTLP collector and without.

    python -m benchmarks.telemetry [sqlite | postgres] [ROUNDS]

The collector (Rotel) drops what it gets. Prints the median of the rounds, and the ratio of those that send to those that do not. Processor
time is that of the submitting process and of the workers: on a busy machine it says more than the other figures.
"""

import asyncio
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks.engine import Figures, echo, fan_out, figures_of, in_flight, run_to_the_end, working

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
WARM, SINGLE, TOGETHER, WIDE = 500, 200, 3_000, 5


def processor_seconds() -> float:
    """Return the processor time of this process and the workers so far."""
    me = psutil.Process()
    times = [each.cpu_times() for each in (me, *me.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def measure_once() -> Figures:
    one, wide = [echo("one")], fan_out(1_000)
    await in_flight(lambda: run_to_the_end(one), count=WARM, width=16)
    single = [await run_to_the_end(one) for _ in range(SINGLE)]
    before = processor_seconds()
    seconds_16 = await in_flight(lambda: run_to_the_end(one), count=TOGETHER, width=16)
    between = processor_seconds()
    fans = [await run_to_the_end(wide) for _ in range(WIDE)]
    return {
        "W1 p50, ms": statistics.median(single) * 1e3,
        "W1 16 in flight, ms/run": seconds_16 * 1e3 / TOGETHER,
        "W1 processor, ms/run": (between - before) * 1e3 / TOGETHER,
        "W3 ms/step": statistics.median(fans),
        "W3 processor, ms/step": (processor_seconds() - between) / WIDE,
    }


def measure() -> None:
    """Run in a separate process, on the configured database; print the figures as JSON."""
    logging.disable(logging.INFO)
    with working():
        figures = asyncio.run(measure_once())
    print(json.dumps({"engine": figures}))


@contextmanager
def sink() -> Iterator[str]:
    """Run the collector. Gives its address."""
    spec = find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = str(Path(spec.origin).with_name("rotel-agent"))
    options = ["--exporter", "blackhole", "--otlp-http-endpoint", address, "--otlp-grpc-endpoint", "127.0.0.1:0"]
    collector = subprocess.Popen([program, "start", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    try:
        yield f"http://{address}"
    finally:
        collector.terminate()
        collector.wait()


def main(engine: str, rounds: int) -> None:
    measured: dict[bool, list[Figures]] = {False: [], True: []}
    with sink() as address:
        for number in range(rounds):
            for is_on in (False, True) if number % 2 == 0 else (True, False):
                os.environ.pop(ENDPOINT, None)
                if is_on:
                    os.environ[ENDPOINT] = address
                measured[is_on].append(figures_of(engine, module="benchmarks.telemetry")["engine"])
    print(f"| {engine}, {rounds} rounds | off | on | ratio | ratios of the rounds |\n|---|---:|---:|---:|---|")
    for name in measured[False][0]:
        off, on = ([each[name] for each in measured[is_on]] for is_on in (False, True))
        each = ", ".join(f"{b / a:.3f}" for a, b in zip(off, on, strict=True))
        ratio = statistics.median(on) / statistics.median(off)
        print(f"| {name} | {statistics.median(off):.3f} | {statistics.median(on):.3f} | {ratio:.3f} | {each} |")


if __name__ == "__main__":
    given = sys.argv[1:]
    measure() if "--measure" in given else main(
        next((each for each in given if not each.isdigit()), "sqlite"),
        next((int(each) for each in given if each.isdigit()), 5),
    )
