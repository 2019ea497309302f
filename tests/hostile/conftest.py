"""A server of each engine, side by side, with the same few trees in it and no worker: nothing moves but by requests."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest
from django.apps import apps

from tests.ports import free_port
from tests.servers import SERVE, Server, new_database, running

SEEDS: Final = (
    [{"id": "seed", "name": "seed"}, {"id": "leaf", "name": "leaf", "parent_id": "seed"}],
    [{"id": "other", "name": "other", "user_id": "somebody"}],
)


@dataclass(slots=True, kw_only=True)
class Target:
    """A server under attack. `count` counts the rows of each table: what it stores."""

    server: Server
    count: Callable[[], dict[str, int]]
    counted: dict[str, int]

    def new_rows(self) -> dict[str, int]:
        """How many rows each table has more than when this was asked last, if not as many."""
        before, self.counted = self.counted, self.count()
        return {table: number - before[table] for table, number in self.counted.items() if number != before[table]}


@pytest.fixture(scope="package")
def target_of_engine(engine_urls: Mapping[str, str]) -> Iterator[Mapping[str, Target]]:
    """By engine. At the end their logs tell that nothing surprised them."""
    with ExitStack() as stack:
        targets = {engine: stack.enter_context(_target(url)) for engine, url in engine_urls.items()}
        yield targets
        for engine, target in targets.items():
            log = target.server.log.read_text()
            assert "Traceback" not in log, f"{engine}: {log[log.index('Traceback') - 500 :][:3000]}"


@contextmanager
def _target(engine_url: str) -> Iterator[Target]:
    port = free_port()
    command = [*SERVE, "--port", str(port), "--no-worker"]
    with (
        new_database(engine_url) as url,
        running(command, port=port, database_url=url, is_ready="/health") as server,
        closing(_connection(url)) as connection,
    ):
        for tasks in SEEDS:
            server.rpc("tasks.create", tasks)
        statement = _counts()

        def count() -> dict[str, int]:
            return dict(connection.execute(statement).fetchall())

        yield Target(server=server, count=count, counted=count())


def _connection(url: str) -> Any:
    """One that stays: to connect takes longer than to answer most requests."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=120, isolation_level=None)
    return psycopg.connect(url, autocommit=True)


def _counts() -> str:
    models = [model for label in ("tasks", "django_q") for model in apps.get_app_config(label).get_models()]
    tables = [model._meta.db_table for model in models if model._meta.managed]
    tables.remove("tasks_installationfact")  # what the processes note of the installation from time to time
    return " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in tables)
