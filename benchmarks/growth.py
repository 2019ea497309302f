"""Benchmark of trees that grow: a map beside the same tasks sent as a tree, and a loop from its first to its last round.

    python -m benchmarks.growth [sqlite] [postgres] [--tasks 9990] [--rounds 3]

Sends a tree of so many tasks, and a map over as many items, with any number at a time and with 10 at a
time, in turn, and prints medians, the range, and the ratio to the tree that was sent. Then a loop adds as
many tasks, 10 in each round: the ratio is that of its last tenth to its first. Both are ratios of one
run, so they may be compared between machines.
"""

import argparse
import asyncio
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from benchmarks.engine import Figures, Task, echo, figures_of, run_to_the_end, working

PER_ROUND: Final = 10
SENT: Final = "sent"
KINDS: Final = (SENT, "map", "map, 10 at a time")


def sent(count: int) -> list[Task]:
    """Return a group of tasks."""
    parts = [echo(f"part{number}", parent_id="all", inputs={"n": number}) for number in range(count)]
    return [{"id": "all", "name": "all"}, *parts]


def mapped(count: int, **settings: Any) -> list[Task]:
    """Return a map that has as many parts."""
    each = {"items": list(range(count)), "max_items": count, **settings}
    return [
        {"id": "all", "name": "all", "params": {"for_each": each}},
        echo("part", parent_id="all", inputs={"n": "{{item}}"}),
    ]


def loop(rounds: int) -> list[Task]:
    """Return a loop of so many rounds with `PER_ROUND` tasks each."""
    until = {"path": "/part0/n", "op": "ge", "value": rounds}
    parts = [echo(f"part{number}", parent_id="all", inputs={"n": "{{round}}"}) for number in range(PER_ROUND)]
    return [{"id": "all", "name": "all", "params": {"repeat": {"until": until, "max": rounds}}}, *parts]


async def measure_maps(count: int, rounds: int) -> dict[str, list[float]]:
    trees = dict(zip(KINDS, (sent(count), mapped(count, max_parallel=count), mapped(count)), strict=True))
    seconds = defaultdict[str, list[float]](list)
    await run_to_the_end(sent(100))
    for _ in range(rounds):
        for kind in KINDS:
            seconds[kind].append(await run_to_the_end(trees[kind]))
    return seconds


async def measure_loop(rounds: int) -> tuple[float, float]:
    """Return the milliseconds of a round in the first and in the last tenth."""
    from accounts.callers import LOCAL
    from apflow_site.db import pools
    from tasks import events
    from tasks.services import trees

    execution = await pools.write(trees.execute_tree, caller=LOCAL, tasks=loop(rounds))
    added = list[float]()
    async for event in events.follow(execution.run.id):
        if event["type"] == "task_spawned":
            added.append(datetime.fromisoformat(event["timestamp"]).timestamp())
        assert event["type"] != "final" or event["status"] == "completed", event
    assert len(added) == rounds, len(added)
    tenth = rounds // 10
    first, last = added[tenth] - added[0], added[-1] - added[-1 - tenth]
    return first / tenth * 1e3, last / tenth * 1e3


def measure(count: int, rounds: int) -> None:
    """Run in a separate process, on the configured database; print the figures as JSON."""
    with working():
        seconds = asyncio.run(measure_maps(count, rounds))
        first, last = asyncio.run(measure_loop(count // PER_ROUND))
    figures = {kind: _figures(each, seconds[SENT]) for kind, each in seconds.items()}
    print(json.dumps(figures | {"loop": {"first ms": first, "last ms": last, "ratio": last / first}}))


def _figures(seconds: Sequence[float], of_sent: Sequence[float]) -> Figures:
    median = statistics.median(seconds)
    return {"s": median, "min": min(seconds), "max": max(seconds), "ratio": statistics.median(of_sent) / median}


def main(arguments: argparse.Namespace) -> None:
    print("| | seconds | from, to | speed as of the tree that was sent |\n|---|---:|---:|---:|")
    for engine in arguments.engines:
        numbers = ["--tasks", str(arguments.tasks), "--rounds", str(arguments.rounds)]
        found = figures_of(engine, module="benchmarks.growth", arguments=numbers)
        of_loop = found.pop("loop")
        for kind, each in found.items():
            print(
                f"| {engine}: {kind} | {each['s']:.2f} | {each['min']:.2f}, {each['max']:.2f} | {each['ratio']:.2f} |"
            )
        print(
            f"\n{engine}: a round of {PER_ROUND} tasks takes {of_loop['first ms']:.1f} ms in the first tenth of a loop "
            f"and {of_loop['last ms']:.1f} ms in the last: {of_loop['ratio']:.2f}\n"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--tasks", type=int, default=9_990)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.measure:
        measure(given.tasks, given.rounds)
    else:
        main(given)
