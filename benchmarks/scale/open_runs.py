"""Benchmark of many open runs: what the server does all the time, while 0, 10,000 and 100,000 runs wait for answers.

    python -m benchmarks.scale.open_runs [sqlite] [postgres] [--runs 0 10000 100000]

A run that waits for an answer occupies no worker, but workers look for runs to claim among the unfinished ones, sweeps
look for answers that were missed, and each page of the dashboard shows the number of open questions. Prints a table for
docs/scale.md.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.scale.databases import figures_of, set_up, table

SIZES: Final = (0, 10_000, 100_000)
MODULE: Final = "benchmarks.scale.open_runs"


def measure(runs: int) -> None:
    """Run in a process of its own, on the configured database; print the milliseconds as JSON."""
    set_up()
    from accounts.callers import LOCAL
    from benchmarks.scale import rows
    from benchmarks.scale.questions import milliseconds
    from tasks.dashboard.inbox import entries
    from tasks.dashboard.pages import count_questions
    from tasks.queue import leases, suspension
    from tasks.services.trees import queries

    rows.fill(1_000)
    rows.park(runs)
    asked: dict[str, Callable[[], Any]] = {
        "a worker looks for a run": leases.is_any_waiting,
        "a worker looks for a suspected run": leases.is_any_suspected,
        "a worker claims one run": claim_one,
        "sweep for missed answers": suspension.sweep,
        "sweep for expired leases": partial(leases.sweep, may_expire=lambda *_: True),
        "the number of open questions, on each page": partial(count_questions, caller=LOCAL),
        "the inbox": partial(entries, caller=LOCAL),
        "tasks.running.count": partial(queries.running_count, caller=LOCAL),
        "tasks.running.list": partial(queries.running_list, caller=LOCAL),
    }
    print(json.dumps({name: milliseconds(question) for name, question in asked.items()}))


def claim_one() -> None:
    """Submit a run and claim it, and roll both back."""
    from django.db import transaction

    from accounts.callers import LOCAL
    from tasks.queue import leases
    from tasks.services import trees

    with transaction.atomic():
        trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}])
        assert len(leases.claim(owner="benchmark", limit=1)) == 1
        transaction.set_rollback(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--runs", nargs="+", type=int, default=SIZES)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        measure(given.measure)
        return
    with TemporaryDirectory() as folder:
        columns = [(engine, runs) for engine in given.engines for runs in given.runs]
        figures = {each: figures_of(MODULE, *each, folder=Path(folder)) for each in columns}
    print(f"\n{table(figures, given.engines, given.runs)}\nLoad average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
