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

STATEMENT: Final = re.compile(r"^(\S+) LOG:  (?:statement|execute [^:]*): (.+)", re.MULTILINE)
"""With the number of its transaction before it."""
WRITES: Final = re.compile(r"INSERT INTO|DELETE FROM|UPDATE \S+ SET")
COLUMNS: Final = 100


def statements_of(log: Path, *, after: int) -> list[tuple[str, str]]:
    """The statements in PostgreSQL's log, each after the number of its transaction."""
    with log.open("rb") as file:
        file.seek(after)
        return STATEMENT.findall(file.read().decode(errors="replace"))


def commits_in(statements: list[tuple[str, str]]) -> int:
    """The transactions that write."""
    return len({transaction for transaction, statement in statements if WRITES.search(statement)})


def without_values(statement: str) -> str:
    """The beginning of a statement."""
    return re.sub(r"'[^']*'|\$?\b\d+\b", "?", statement)[:COLUMNS]


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
            database.execute("ALTER SYSTEM SET log_line_prefix = '%v '")
            database.execute("SELECT pg_reload_conf()")
        asyncio.run(execute(port, 20))
        log = Path(folder) / "postgres" / "log"
        start = log.stat().st_size
        asyncio.run(execute(port, runs))
        statements = statements_of(log, after=start)
    print(f"{len(statements) / runs:.1f} commands and {commits_in(statements) / runs:.1f} commits for each run:")
    for statement, count in Counter(without_values(statement) for _, statement in statements).most_common():
        if count >= runs / 2:
            print(f"{count / runs:5.2f}  {statement}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
