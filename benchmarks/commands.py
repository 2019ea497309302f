"""Counts what runs cost PostgreSQL and the server: commands, commits, log, versions of rows, and processor time.

    python -m benchmarks.commands [--runs 400] [--statements]

Starts `aipartnerupflow serve` with a new PostgreSQL, and executes runs of one step, one at a time and 16 in flight, and
chains of 100 steps, over HTTP with `wait`. Prints Markdown: figures of a run, and of a step of a chain. With
`--statements` also the commands of each workload. Other work of the machine changes only the processor time, and that
little. What the server does every few seconds anyway, such as heartbeats, is counted too.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
import psycopg

from benchmarks.engine import chain, in_flight
from benchmarks.http import Client, Json, postgres, serving_at, task

SETTINGS: Final = {"shared_preload_libraries": "pg_stat_statements", "checkpoint_timeout": "1h", "max_wal_size": "8GB"}
"""A checkpoint makes each page that changes after it a part of the log."""
REPORTED_SECONDS: Final = 11.0
"""An idle session reports which rows it has written after 10 seconds."""
STEPS: Final = 100
COLUMNS: Final = 110
COMMANDS: Final = "SELECT left(query, 300), calls FROM pg_stat_statements WHERE toplevel AND query NOT ILIKE '%pg_%'"
LOG: Final = 'SELECT "resource_manager/record_type", count, combined_size FROM pg_get_wal_stats(%s, %s, true)'
ROWS: Final = "SELECT relname, n_tup_ins + n_tup_upd, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE n_tup_ins + n_tup_upd > 0"
SESSIONS: Final = "SELECT pid, backend_type || replace(application_name, 'aipartnerupflow', '') FROM pg_stat_activity"
Figures = defaultdict[str, float]
"""Numbers by their name."""


def processor_time(database: psycopg.Connection[Any]) -> dict[str, float]:
    """Return the milliseconds of each kind of process so far."""
    kinds = {pid: f"PostgreSQL, {kind}" for pid, kind in database.execute(SESSIONS)}
    for process in psutil.Process().children(recursive=True):
        kinds[process.pid] = "worker" if "tasks.worker.cluster" in process.cmdline() else "web"
    spent = Figures(float)
    for pid, kind in kinds.items():
        spent["processor ms: " + kind] += sum(psutil.Process(pid).cpu_times()[:2]) * 1000
    return spent


def counted(
    database: psycopg.Connection[Any], work: Coroutine[Any, Any, None], *, parts: int
) -> tuple[Figures, Figures]:
    """Do the work. Returns what each part of it took, by name, and how often it made each command."""
    figures, commands = Figures(float), Figures(float)
    written, spent, start = rows_written(database), processor_time(database), log_position(database)
    database.execute("SELECT pg_stat_statements_reset()")
    asyncio.run(work)
    end, spent_since = log_position(database), processor_time(database)
    for command, calls in database.execute(COMMANDS):
        commands[" ".join(command.split())[:COLUMNS]] += calls / parts
    figures["commands"] = sum(commands.values())
    for record, count, size in database.execute(LOG, [start, end]):
        figures["commits"] += count / parts if record == "Transaction/COMMIT" else 0
        figures["bytes of log"] += int(size) / parts
        figures["bytes of log: " + record.partition("/")[0]] += int(size) / parts
    for name, number in spent_since.items():
        figures[name] = (number - spent[name]) / parts
    time.sleep(REPORTED_SECONDS)
    for name, number in rows_written(database).items():
        figures[name] = (number - written[name]) / parts
    return figures, commands


def rows_written(database: psycopg.Connection[Any]) -> dict[str, float]:
    """Return how many versions of rows have been written to each table, and how many of them changed no index."""
    written = Figures(float)
    for table, versions, updates, hot in database.execute(ROWS):
        written["versions: " + table] = versions
        written["updates: " + table] = updates
        written["HOT updates: " + table] = hot
    return written


def log_position(database: psycopg.Connection[Any]) -> str:
    database.execute(
        "SELECT pg_logical_emit_message(true, 'counted', '')"
    )  # flushes what unflushed commits have written
    row = database.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    assert row is not None
    return str(row[0])


async def execute(port: int, tasks: list[Json], *, count: int, width: int) -> None:
    """Execute the tree so often over HTTP, so many at a time."""
    clients = [await Client.connected(port) for _ in range(width)]

    async def one() -> None:
        client = clients.pop()
        reply = await client.rpc("tasks.execute", {"tasks": tasks, "wait": True})
        assert reply["status"] == "completed", reply
        clients.append(client)

    await in_flight(one, count=count, width=width)
    for client in clients:
        client.close()


def table(columns: dict[str, Figures]) -> str:
    """Return the figures as Markdown; of the tables, those with a version of a row for each tenth run."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        if max(figures[name] for figures in columns.values()) >= 0.05:
            lines.append(f"| {name} | " + " | ".join(f"{figures[name]:,.2f}" for figures in columns.values()) + " |")
    return "\n".join(lines)


def main(*, runs: int, with_statements: bool) -> None:
    one, chains = [task()], max(1, runs // 50)
    workloads = {
        "a run, one at a time": (one, runs, 1, runs),
        "a run, 16 in flight": (one, 4 * runs, 16, 4 * runs),
        "a step of a chain": (chain(STEPS), chains, 1, chains * STEPS),
    }
    columns, statements = dict[str, Figures](), dict[str, Figures]()
    with TemporaryDirectory() as folder:
        with postgres(Path(folder)) as url, psycopg.connect(url, autocommit=True) as database:
            for name, value in SETTINGS.items():
                database.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        with postgres(Path(folder)) as url, serving_at(url, folder=folder) as port:
            database = psycopg.connect(url, autocommit=True)
            database.execute("CREATE EXTENSION pg_stat_statements")
            database.execute("CREATE EXTENSION pg_walinspect")
            asyncio.run(execute(port, one, count=100, width=16))
            time.sleep(REPORTED_SECONDS)
            for workload, (tasks, count, width, parts) in workloads.items():
                work = execute(port, tasks, count=count, width=width)
                columns[workload], statements[workload] = counted(database, work, parts=parts)
            database.close()
    print(table(columns))
    for workload, commands in statements.items() if with_statements else ():
        print(f"\n{workload}:")
        for command, calls in sorted(commands.items(), key=itemgetter(1), reverse=True):
            if calls >= 0.01:
                print(f"{calls:6.2f}  {command}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--statements", action="store_true")
    arguments = parser.parse_args()
    main(runs=arguments.runs, with_statements=arguments.statements)
