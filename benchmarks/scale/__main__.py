"""Benchmark of lists, counts, searches, trees and pruning in databases of 10,000, 100,000 and 1,000,000 trees.

    python -m benchmarks.scale [sqlite] [postgres] [--roots 10000 100000 1000000] [--folder FOLDER] [--picture FILE]

A million trees are ten million tasks and twenty million events: 14 GB and five minutes to fill, for each engine. The
databases stay in FOLDER and are used again; without it they are temporary. Prints a table for docs/scale.md, and
draws some of its rows.
"""

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.scale.databases import figures_of, set_up, table
from benchmarks.scale.picture import curves

SIZES: Final = (10_000, 100_000, 1_000_000)
MODULE: Final = "benchmarks.scale"
DRAWN: Final = (
    "tasks.list, large owner",
    "tasks.list, status in_progress",
    "tasks.count, large owner",
    "dashboard, search by part of a rare name",
)


def measure(roots: int) -> None:
    """Run in a process of its own, on the configured database; print the milliseconds as JSON."""
    set_up()
    from benchmarks.scale import questions, rows
    from tasks.models import Task

    if not Task.objects.exists():
        rows.fill(roots)
    rows.add_large_trees()
    rows.add_up_counts()
    asked = {**questions.questions(roots), **questions.trees()}
    figures = {name: questions.milliseconds(question) for name, question in asked.items()}
    print(json.dumps(figures | questions.prunings()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--roots", nargs="+", type=int, default=SIZES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
        return
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(TemporaryDirectory()))
        columns = [(engine, roots) for engine in given.engines for roots in given.roots]
        figures = {each: figures_of(MODULE, *each, folder=folder) for each in columns}
    print(f"\n{table(figures, given.engines, given.roots)}\nLoad average: {os.getloadavg()[0]:.1f}")
    if given.picture:
        lines = {
            f"{name} ({engine})": [(roots, figures[engine, roots][name]) for roots in given.roots]
            for name in DRAWN
            for engine in given.engines
        }
        given.picture.write_text(curves(lines, x="trees", y="ms"))


if __name__ == "__main__":
    main()
