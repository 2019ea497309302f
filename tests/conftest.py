"""What all tests share: the test database is a file on SQLite, and nobody is left in it at the end."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker

pytest_plugins = ["tests.browser", "tests.distribution", "tests.shared_servers"]

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Threads and processes have connections of their own, so the test database must not be in memory."""
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Long-lived threads keep a connection each; PostgreSQL drops no database while somebody is in it."""
    yield
    if connection.vendor == "postgresql":
        name = connection.settings_dict["NAME"]
        with django_db_blocker.unblock():
            connection.close()
        with psycopg.connect(os.environ["AIPARTNERUPFLOW_DATABASE_URL"], autocommit=True) as others:
            # Closed first: a doorbell comes back at once.
            others.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            others.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
