"""Measures a step of a workflow beside the same step as data: a task of a tree in a request.

    python -m benchmarks.workflows [sqlite] [postgres] [--steps 10 100 1000 9999]

Chains and fan-outs of steps that only add two numbers, as data and as code in turns, through the real queue and worker.
Prints Markdown: milliseconds for each step, the median of the repetitions, and the ratio of code to data.
"""

import asyncio
import json
import os
import statistics
import sys
from typing import Final

from aipartnerupflow.executors import python_function
from aipartnerupflow.workflows import gather, step, workflow
from benchmarks.engine import Figures, Task, figures_of, run_to_the_end, working

STEPS: Final = (10, 100, 1_000, 9_999)
"""A tree has at most 10,000 tasks, and a fan-out as data has one that joins."""
MOST_STEPS: Final = 3_000
"""The steps that are run altogether of each kind, unless one run has more."""


@python_function(idempotent=True)
async def plain_sum(a: int, b: int = 1) -> int:
    return a + b


@step(idempotent=True)
async def stored_sum(a: int, b: int = 1) -> int:
    return a + b


@workflow
async def chain_of_sums(steps: int) -> int:
    whole = 0
    for _ in range(steps):
        whole = await stored_sum(whole)
    return whole


@workflow
async def many_sums(steps: int) -> int:
    return sum(await gather(*(stored_sum(number) for number in range(steps))))


def as_data(kind: str, steps: int) -> list[Task]:
    def task(number: int) -> Task:
        inputs = {"function": "plain_sum", "arguments": {"a": number}}
        return {"id": f"s{number}", "name": "plain_sum", "schemas": {"method": "python_executor"}, "inputs": inputs}

    tasks = [task(number) for number in range(steps)]
    if kind == "fan-out":
        join = {"id": "join", "name": "join"}
        return [join, *(each | {"parent_id": "join"} for each in tasks)]
    return [
        each | ({"parent_id": "s0", "dependencies": [f"s{number - 1}"]} if number else {})
        for number, each in enumerate(tasks)
    ]


def as_code(kind: str, steps: int) -> list[Task]:
    name = "many_sums" if kind == "fan-out" else "chain_of_sums"
    return [{"id": "w", "name": "w", "schemas": {"method": f"workflow:{name}"}, "inputs": {"steps": steps}}]


async def measured(sizes: list[int]) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    await run_to_the_end(as_data("chain", 20))
    await run_to_the_end(as_code("chain", 20))
    for kind in ("chain", "fan-out"):
        for steps in sizes:
            data, code = list[float](), list[float]()
            for _ in range(max(1, min(20, MOST_STEPS // steps))):
                data.append(await run_to_the_end(as_data(kind, steps)) / steps * 1e3)
                code.append(await run_to_the_end(as_code(kind, steps)) / steps * 1e3)
            found[f"{kind} of {steps:,}"] = {"data": statistics.median(data), "code": statistics.median(code)}
    return found


def main(arguments: list[str]) -> None:
    engines = [each for each in arguments if each in ("sqlite", "postgres")] or ["sqlite", "postgres"]
    sizes = [each for each in arguments if each.isdecimal()]
    print("| | " + " | ".join(f"{engine}, data | code | ratio" for engine in engines) + " |")
    print("|---|" + "---:|---:|---:|" * len(engines))
    of_engines = [figures_of(engine, module="benchmarks.workflows", arguments=sizes) for engine in engines]
    for name in of_engines[0]:
        cells = [
            f"{figures[name]['data']:.2f} ms | {figures[name]['code']:.2f} ms | {figures[name]['code'] / figures[name]['data']:.2f}"
            for figures in of_engines
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def measure(sizes: list[str]) -> None:
    """Run in a separate process, on the configured database; print the figures as JSON."""
    os.environ["AIPARTNERUPFLOW_EXECUTORS_MODULES"] = "benchmarks.workflows"
    with working():
        figures = asyncio.run(measured([int(each) for each in sizes] or list(STEPS)))
    print(json.dumps(figures))


if __name__ == "__main__":
    measure([each for each in sys.argv[2:] if each != "--steps"]) if "--measure" in sys.argv else main(sys.argv[1:])
