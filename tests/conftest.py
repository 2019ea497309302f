"""What all tests share: the test database."""

import gc
import os
from collections.abc import Iterator
from functools import cache
from typing import Final

import psycopg
import pytest
from django.db import connection, transaction
from django.test import TransactionTestCase
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker

from tests.cheap_passwords import make_passwords_cheap
from tests.servers import postgres_template, sqlite_template

pytest_plugins = ["tests.browser", "tests.distribution", "tests.shared_servers"]

settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", settings.get_profile("ci"), max_examples=300)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
make_passwords_cheap()
# Collections took 4 % of the processor time of these processes, and hardly any of their garbage is in cycles.
gc.set_threshold(50_000)


IS_SQLITE: Final = connection.vendor == "sqlite"
MADE_BY_MIGRATIONS: Final = frozenset({"django_migrations", "django_content_type", "auth_permission"})
"""Tables whose rows belong to the schema."""


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """The file on SQLite exists before Django is asked to make it."""
    return IS_SQLITE


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Copy the test database from the one with our tables that the servers' databases are copied from.

    On SQLite it is a file: threads and processes have connections of their own.
    """
    if IS_SQLITE:
        file = tmp_path_factory.mktemp("database") / "test.sqlite3"
        file.write_bytes(sqlite_template())
        connection.settings_dict["TEST"]["NAME"] = str(file)
    else:
        connection.settings_dict["TEST"]["TEMPLATE"] = postgres_template(os.environ["AIPARTNERUPFLOW_DATABASE_URL"])


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Empty the tables after each test, keep the connection, and close all connections at the end of the session.

    Django would open a new connection for each test, which costs 20 ms on PostgreSQL: a new backend reads the catalog
    again. A test that changes a setting of the connection must reset it. At the end, threads that are still alive have
    connections of their own, and PostgreSQL drops no database that has any.
    """
    TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[attr-defined]
    TransactionTestCase._should_reload_connections = lambda _: False  # type: ignore[attr-defined]
    yield
    if connection.vendor == "postgresql":
        name = connection.settings_dict["NAME"]
        with django_db_blocker.unblock():
            connection.close()
        with psycopg.connect(os.environ["AIPARTNERUPFLOW_DATABASE_URL"], autocommit=True) as others:
            # Closed first: a doorbell comes back at once.
            others.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            others.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def _empty_tables(_: TransactionTestCase) -> None:
    """Delete the rows that a test has committed.

    Django's own way also makes the rows of MADE_BY_MIGRATIONS again, which takes longer than most of the tests, and
    truncates on PostgreSQL, which takes longer still.
    """
    if IS_SQLITE:
        connection.ensure_connection()
        connection.connection.executescript(f"BEGIN IMMEDIATE; {_deletions()}; COMMIT")
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_deletions())


@cache
def _deletions() -> str:
    """All in one call, which is one way to PostgreSQL and back. Sums come last: triggers write what a DELETE of others takes away."""
    everything = set(connection.introspection.table_names()) - MADE_BY_MIGRATIONS
    of_models = everything & set(connection.introspection.django_table_names())
    tables = [*sorted(of_models), *sorted(everything - of_models)]
    return "; ".join(f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables)
