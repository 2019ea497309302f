"""The SQLite file and its companions are private in any folder."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apflow_site.databases import database_settings, sqlite_url
from apflow_site.sqlite.base import DatabaseWrapper


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()}


def connection_to(file: Path) -> sqlite3.Connection:
    """As Django opens it."""
    options = database_settings(sqlite_url(file))["OPTIONS"]
    wrapper = DatabaseWrapper({"NAME": str(file), "OPTIONS": options, "TIME_ZONE": None}, "a")
    connection: sqlite3.Connection = wrapper.get_new_connection(wrapper.get_connection_params())
    return connection


@pytest.mark.parametrize("exists", [False, True])
def test_only_the_user_of_the_server_reads_the_database(tmp_path: Path, exists: bool) -> None:
    if exists:
        with sqlite3.connect(tmp_path / "a.db") as before:
            before.execute("CREATE TABLE a (b)")
        before.close()
        assert modes(tmp_path) == {"a.db": "0o644"}
    connection = connection_to(tmp_path / "a.db")
    connection.execute("CREATE TABLE c (d)")
    assert modes(tmp_path) == dict.fromkeys(("a.db", "a.db-wal", "a.db-shm"), "0o600")
    connection.close()


def test_another_connection_of_the_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of the file.

    Another process would then take itself for the last one, and delete the log under the first.
    """
    first = connection_to(tmp_path / "a.db")
    first.execute("CREATE TABLE c (d)")
    second = connection_to(tmp_path / "a.db")
    program = "import sqlite3, sys; a = sqlite3.connect(sys.argv[1]); a.execute('SELECT * FROM c'); a.close()"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.db")], check=True)
    assert "a.db-wal" in modes(tmp_path)
    for connection in (first, second):
        connection.close()


def test_a_folder_that_is_missing_is_reported_by_sqlite(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connection_to(tmp_path / "none/a.db")
