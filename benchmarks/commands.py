"""Counts what PostgreSQL is asked to do for a run of one step: commands and commits, by kind.

    python -m benchmarks.commands [RUNS]

Starts `aipartnerupflow serve` with a new PostgreSQL that logs every statement, and executes runs of
one step, one after the other, while the worker is awake. What the server does every few seconds
anyway, such as heartbeats, is counted too, but does not grow with the runs: the figures of many
runs are lower.
"""

import asyncio
import re
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg

from benchmarks.http import Client, postgres, serving_at, task

STATEMENT: Final = re.compile(r"LOG:  (?:statement|execute [^:]*): (.+)")
WRITES: Final = ("INSERT", "UPDATE", "DELETE")
COLUMNS: Final = 100


def statements_of(log: Path, *, after: int) -> list[str]:
    """The statements in PostgreSQL's log, without their values."""
    with log.open("rb") as file:
        file.seek(after)
        found = STATEMENT.findall(file.read().decode(errors="replace"))
    return [re.sub(r"'[^']*'|\$?\b\d+\b", "?", statement)[:COLUMNS] for statement in found]


def commits_in(statements: list[str]) -> int:
    """The commits: of transactions, and of writes outside of one, counted as if one session had sent them all.

    Sessions interleave, so a write may be counted to the wrong transaction, but hardly ever in quiet runs.
    """
    commits, is_open = 0, False
    for statement in statements:
        if statement == "BEGIN":
            is_open = True
        elif statement == "COMMIT":
            commits, is_open = commits + 1, False
        elif not is_open and statement.startswith(WRITES):
            commits += 1
    return commits


async def execute(port: int, runs: int) -> None:
    client = await Client.connected(port)
    for _ in range(runs):
        reply = await client.rpc("tasks.execute", {"tasks": [task()], "wait": True})
        assert reply["status"] == "completed", reply
    client.close()


def main(runs: int) -> None:
    with TemporaryDirectory() as folder, postgres(Path(folder)) as url, serving_at(url, folder=folder) as port:
        with psycopg.connect(url, autocommit=True) as database:
            database.execute("ALTER SYSTEM SET log_statement = 'all'")
            database.execute("SELECT pg_reload_conf()")
        asyncio.run(execute(port, 20))
        log = Path(folder) / "postgres" / "log"
        start = log.stat().st_size
        asyncio.run(execute(port, runs))
        statements = statements_of(log, after=start)
    print(f"{len(statements) / runs:.1f} commands and {commits_in(statements) / runs:.1f} commits for each run:")
    for statement, count in Counter(statements).most_common():
        if count >= runs / 2:
            print(f"{count / runs:5.2f}  {statement}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
