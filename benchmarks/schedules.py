"""Benchmark of schedules: how late runs start when many schedules are due in the same second.

    python -m benchmarks.schedules [sqlite] [postgres] [--schedules 1000] [--users 10] [--rounds 3] [--processes 1]

Stores the schedules, all due at one moment, and starts processes that fire them as a server does, and prints
how long after that moment the runs were queued: the median, the 99th percentile and the last one. No worker
runs them, so the figures are those of schedules alone. Of several rounds, each is printed.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.scale.databases import Figures, database, set_up

LEAD: Final = timedelta(seconds=3)
FIRE: Final = "import benchmarks.schedules as own; own.fire()"
TREE: Final = [{"id": "a", "name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "hi"}}]
PATIENCE_SECONDS: Final = 120.0


def fire() -> None:
    """Fire schedules until standard input is closed."""
    set_up()
    from tasks.worker import watches

    is_over = threading.Event()
    threading.Thread(target=watches.watch_schedules, args=[is_over], daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def store(count: int, users: int, at: str) -> None:
    from accounts.callers import Caller
    from tasks.services import schedules

    for number in range(count):
        fields = {"tasks": TREE, "every_seconds": 86_400 * 365, "starts_at": at}
        schedules.create_schedule(caller=Caller(user_id=f"user{number % users}"), fields=fields)


def measure(count: int, users: int, rounds: int, processes: int) -> None:
    """Run in a process of its own, on the configured database; print the figures as JSON."""
    set_up()
    logging.getLogger("audit").disabled = True  # it has a line for each schedule
    print(json.dumps(dict(one_round(count, users, processes, rounds))))


def one_round(count: int, users: int, processes: int, rounds: int) -> Iterator[tuple[str, float]]:
    from django.db import transaction

    from tasks.models import Firing, Schedule
    from tasks.queue import clock, notify

    store(count, users, "2099-01-01T00:00:00Z")
    for number in range(1, rounds + 1):
        Firing.objects.all().delete()
        started = [_firing_process() for _ in range(processes)]
        at = (clock.database_time() + LEAD).replace(microsecond=0)
        with transaction.atomic():
            Schedule.objects.update(starts_at=at, next_slot=at, next_run_at=at)
            notify.send(notify.SCHEDULES)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while Firing.objects.count() < count:
            assert time.monotonic() < deadline, "not all have been fired"
            time.sleep(0.2)
        for process in started:
            process.communicate()
        late = sorted(
            (each - at).total_seconds() for each in Firing.objects.values_list("started_at", flat=True) if each
        )
        assert len(late) == count, len(late)
        yield f"{number}: p50 s", statistics.median(late)
        yield f"{number}: p99 s", late[int(count * 0.99) - 1]
        yield f"{number}: last s", late[-1]


def _firing_process() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", FIRE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def main(given: argparse.Namespace) -> None:
    print(f"{given.schedules:,} schedules of {given.users:,} users due at once, {given.processes} process(es)\n")
    print("| | p50 s | p99 s | last s |\n|---|---:|---:|---:|")
    for engine in given.engines:
        with TemporaryDirectory() as folder:
            found = _figures(engine, given, folder=Path(folder))
        for number in range(1, given.rounds + 1):
            row = " | ".join(f"{found[f'{number}: {name} s']:.3f}" for name in ("p50", "p99", "last"))
            print(f"| {engine}, round {number} | {row} |")


def _figures(engine: str, given: argparse.Namespace, *, folder: Path) -> Figures:
    numbers = ["--users", given.users, "--rounds", given.rounds, "--processes", given.processes]
    command = [sys.executable, "-m", "benchmarks.schedules", "--measure", given.schedules, *numbers]
    env = {key: value for key, value in os.environ.items() if not key.startswith("AIPARTNERUPFLOW_")}
    with database(engine, "schedules", folder=folder) as settings:
        output = subprocess.run([*map(str, command)], env=env | settings, stdout=subprocess.PIPE, check=True).stdout
    found: Figures = json.loads(output.splitlines()[-1])
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--schedules", type=int, default=1_000)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    if arguments.measure:
        measure(arguments.measure, arguments.users, arguments.rounds, arguments.processes)
    else:
        main(arguments)
