"""Benchmark of runs over worker and web processes on PostgreSQL, of an old transaction beside them, and of pruning.

    python -m benchmarks.scaling [--seconds 10] [--workers 1 2 4 8] [--web 1 2 4]
    python -m benchmarks.scaling idle-transaction [--minutes 30]
    python -m benchmarks.scaling pruning [--seconds 30]

Starts `aipartnerupflow serve` with a new PostgreSQL and lets `wrk` execute runs of one step and wait for their end, 32 at
a time. Prints the runs per second; the processor time that the web processes, the worker processes and PostgreSQL take for
each run; commits, the bytes of PostgreSQL's log for each run, and the share of all processors that is in use. With
`idle-transaction`, a transaction with a snapshot stays open meanwhile: a line for each minute has the runs per second and
the dead rows of the tables that change most. With `pruning`, trees that ended long ago are pruned meanwhile.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.http import Call, access_token, postgres, requests_per_second, require_wrk, rpc, serving_at, task
from benchmarks.processes import cpu_of_all, cpu_of_web, cpu_of_workers

WIDTH: Final = 32
TABLES: Final = ("tasks_run", "tasks_task", "tasks_taskevent")
COUNTERS: Final = """
    SELECT xact_commit, (SELECT wal_bytes::bigint FROM pg_stat_wal), pg_current_xact_id()::text::bigint
    FROM pg_stat_database WHERE datname = current_database()
"""
DEAD_ROWS: Final = "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE relname = ANY (%s)"
OLD: Final = "SELECT count(*) FROM tasks_run WHERE finished_at < now() - interval '1 day'"
COLUMNS: Final = """
    SELECT column_name FROM information_schema.columns WHERE table_name = %s AND is_identity = 'NO' ORDER BY 1
"""
COPIED: Final = {
    "tasks_task": ("id", "root_id"),
    "tasks_run": ("id", "root_id", "target_id"),
    "tasks_taskevent": ("run_id",),
}
"""Tables with their columns that get new ids."""
COPIES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A server under load. `url` is that of its database."""

    port: int
    url: str
    call: Call

    def run(self, *, seconds: int) -> tuple[float, int]:
        """Execute runs for some seconds. Returns the runs per second, and their number."""
        return requests_per_second(self.port, self.call, width=WIDTH, seconds=seconds)

    def cpu(self) -> tuple[float, float, float]:
        """The processor time in seconds of the web processes, of the worker processes, and of PostgreSQL."""
        folder = self.ask("SHOW data_directory")[0][0]
        postmaster = int(Path(folder, "postmaster.pid").read_text().split()[0])
        return cpu_of_web(self.port), cpu_of_workers(self.port), cpu_of_all(postmaster)

    def ask(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as database:
            return database.execute(query, params).fetchall()


@contextmanager
def loaded(settings: Mapping[str, str]) -> Iterator[Load]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(postgres(Path(folder)))
        port = stack.enter_context(serving_at(url, folder=folder, with_authentication=True, settings=settings))
        one, token = {"tasks": [task()], "wait": True}, access_token(port)
        call = rpc("tasks.execute", one, token=token, is_right=lambda it: bool(it["status"] == "completed"))
        load = Load(port=port, url=url, call=call)
        load.run(seconds=2)  # let everything be imported, and the pools be filled
        yield load


def measure(workers: int, web: int, *, seconds: int) -> str:
    """One row of the table."""
    settings = {"AIPARTNERUPFLOW_WORKER_PROCESSES": str(workers), "AIPARTNERUPFLOW_SERVER_WORKERS": str(web)}
    with loaded(settings) as load:
        before, (counted,) = load.cpu(), load.ask(COUNTERS)
        began, idle = time.perf_counter(), idle_seconds()
        rate, runs = load.run(seconds=seconds)
        passed, idle = time.perf_counter() - began, idle_seconds() - idle
        cpu = [after - first for after, first in zip(load.cpu(), before, strict=True)]
        (now,) = load.ask(COUNTERS)
    commits, wal, writes = (after - first for after, first in zip(now, counted, strict=True))
    busy = 1 - idle / passed / (os.cpu_count() or 1)
    figures = [f"{1_000 * each / runs:.1f}" for each in cpu]
    figures += [f"{writes / runs:.1f}", f"{commits / runs:.1f}", f"{wal / runs / 1024:.1f}", f"{busy:.0%}"]
    return f"| {workers} | {web} | {rate:,.0f} | {' | '.join(figures)} |"


def idle_seconds() -> float:
    """The time that all processors together have had nothing to do."""
    idle, waiting = Path("/proc/stat").read_text().split("\n")[0].split()[4:6]
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")


def scale(workers: list[int], web: list[int], *, seconds: int) -> None:
    heads = ["runs/s", "web ms", "workers ms", "PostgreSQL ms", "transactions that write", "commits", "WAL KiB", "busy"]
    print(f"| worker processes | web processes | {' | '.join(heads)} |\n|---:|---:|{'---:|' * len(heads)}", flush=True)
    for number, others in [*((each, web[0]) for each in workers), *((2, each) for each in web[1:])]:
        print(measure(number, others, seconds=seconds), flush=True)


def beside_an_idle_transaction(minutes: int) -> None:
    print(f"| minute | runs/s | {' | '.join(f'dead rows of `{each}`' for each in TABLES)} |")
    print(f"|---:|---:|{'---:|' * len(TABLES)}", flush=True)
    with loaded({"AIPARTNERUPFLOW_AUTH_ACCESS_MINUTES": "1440"}) as load, psycopg.connect(load.url) as idle:
        for minute in range(minutes + 2):
            if minute == 1:
                idle.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                idle.execute("SET idle_in_transaction_session_timeout = 0")
                idle.execute("SELECT count(*) FROM tasks_run")
            if minute == minutes + 1:
                idle.rollback()
            rate, _ = load.run(seconds=60)
            dead = dict(load.ask(DEAD_ROWS, list(TABLES)))
            name = "without" if minute == 0 else "after its end" if minute > minutes else str(minute)
            print(f"| {name} | {rate:,.0f} | {' | '.join(f'{dead[each]:,}' for each in TABLES)} |", flush=True)


def beside_pruning(seconds: int) -> None:
    """Multiply the runs of the load, let the copies have ended long ago, and count those that are gone."""
    with loaded({"AIPARTNERUPFLOW_RETENTION_COMPLETED_DAYS": "1"}) as load:
        alone, _ = load.run(seconds=seconds)
        with psycopg.connect(load.url) as database:
            for table, keys in COPIED.items():
                columns = [row[0] for row in database.execute(COLUMNS, [table])]
                values = [f"md5({each} || '-' || n)::uuid::text" if each in keys else each for each in columns]
                source = f"SELECT {', '.join(values)} FROM {table}, generate_series(1, {COPIES}) n"
                database.execute(f"INSERT INTO {table} ({', '.join(columns)}) {source}")
            database.execute(
                "UPDATE tasks_run SET finished_at = finished_at - interval '9 days' WHERE finished_at < now()"
            )
            database.execute("DELETE FROM tasks_installationfact WHERE name LIKE 'swept_%'")  # the past has changed
            database.commit()
            database.autocommit = True
            database.execute("VACUUM ANALYZE")
        ((old,),) = load.ask(OLD)
        while load.ask(OLD) == [(old,)]:  # it looks every 20 s while there is nothing to prune
            load.run(seconds=1)
        ((old,),), began = load.ask(OLD), time.perf_counter()
        beside, _ = load.run(seconds=seconds)
        ((left,),) = load.ask(OLD)
        passed = time.perf_counter() - began
    print(f"{alone:,.0f} runs/s alone, and {beside:,.0f} beside the pruning of {(old - left) / passed:,.0f} trees/s")
    print(f"{left:,} of {old:,} old trees are left.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["processes", "idle-transaction", "pruning"], default="processes")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--web", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--minutes", type=int, default=30)
    given = parser.parse_args()
    require_wrk()
    if given.what == "idle-transaction":
        beside_an_idle_transaction(given.minutes)
    elif given.what == "pruning":
        beside_pruning(given.seconds)
    else:
        scale(given.workers, given.web, seconds=given.seconds)
    print(f"Load average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
