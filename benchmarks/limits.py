"""Benchmark of named limits that never bite: what a start and an end cost beside one without limits.

    python -m benchmarks.limits [sqlite] [postgres] [ROUNDS]

W1 and W3 as in `benchmarks.engine`, on one server, whose limit changes between the rounds: so what else the machine does
meets all alike. Prints the median of the rounds, and its ratio to that without a limit.
"""

import asyncio
import json
import statistics
import sys
import time
from typing import Any, Final

from benchmarks.engine import Figures, echo, fan_out, figures_of, in_flight, run_to_the_end, working

MATCH: Final = {"match": {"executor": "echo_executor"}}
VARIANTS: Final[dict[str, dict[str, Any] | None]] = {
    "without": None,
    "rate": MATCH | {"requests_per_minute": 10**6},
    "at_once": MATCH | {"at_once": 10_000},
    "both": MATCH | {"requests_per_minute": 10**6, "at_once": 10_000},
}
KNOWN_SECONDS: Final = 12.0
"""A worker reads the limits with its heartbeat."""


async def measure_variant() -> Figures:
    single = [await run_to_the_end([echo("one")]) for _ in range(40)]
    alone = []
    for _ in range(4):
        await asyncio.sleep(1.2)  # nothing is left of what was taken in advance
        alone.append(await run_to_the_end([echo("one")]))
    seconds_16 = await in_flight(lambda: run_to_the_end([echo("one")]), count=600, width=16)
    wide = [await run_to_the_end(fan_out(1000)) for _ in range(2)]
    return {
        "W1 p50 ms": statistics.median(single) * 1e3,
        "W1 ms, the first of a second": statistics.median(alone) * 1e3,
        "W1 ms/run, 16 in flight": seconds_16 / 600 * 1e3,
        "W3 ms/step": statistics.median(wide) / 1001 * 1e3,
    }


def measure(rounds: int) -> None:
    """Run in a separate process, on the configured database; print the figures as JSON."""
    with working():
        from accounts.callers import LOCAL
        from tasks.services.waits import named_limits

        asyncio.run(measure_variant())  # warm
        found: dict[str, list[Figures]] = {name: [] for name in VARIANTS}
        for number in range(rounds):
            for name in list(VARIANTS)[:: 1 if number % 2 else -1]:
                given = VARIANTS[name]
                if given is None:
                    named_limits.delete_limit(LOCAL, name="wide")
                else:
                    named_limits.set_limit(LOCAL, name="wide", given=given)
                time.sleep(KNOWN_SECONDS)
                found[name].append(asyncio.run(measure_variant()))
    medians = {
        name: {figure: statistics.median(each[figure] for each in all_rounds) for figure in all_rounds[0]}
        for name, all_rounds in found.items()
    }
    print(json.dumps(medians))


def main(engines: list[str], rounds: str) -> None:
    for engine in engines:
        figures = figures_of(engine, module="benchmarks.limits", arguments=[rounds])
        print(f"| {engine} | " + " | ".join(VARIANTS) + " |")
        print("|---|" + "---:|" * len(VARIANTS))
        for name, without in figures["without"].items():
            cells = (f"{figures[each][name]:,.3f} ({figures[each][name] / without - 1:+.1%})" for each in VARIANTS)
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    given = sys.argv[1:]
    rounds = next((each for each in given if each.isdecimal()), "5")
    if "--measure" in given:
        measure(int(rounds))
    else:
        main([each for each in given if not each.isdecimal()] or ["sqlite", "postgres"], rounds)
