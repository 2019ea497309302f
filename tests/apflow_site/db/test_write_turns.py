"""Writes on SQLite that wait for each other: one that has waited begins before those that come after it."""

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import OperationalError

from apflow_site.databases import database_settings, sqlite_url
from apflow_site.sqlite import base
from apflow_site.sqlite.base import BEGIN, DatabaseWrapper, opened_turn
from tests.servers import until

pytestmark = pytest.mark.django_db


def opened(file: Path) -> DatabaseWrapper:
    settings = database_settings(sqlite_url(file)) | {
        "AUTOCOMMIT": True,
        "TIME_ZONE": None,
        "CONN_HEALTH_CHECKS": False,
    }
    wrapper = DatabaseWrapper(settings, "a")
    wrapper.inc_thread_sharing()
    wrapper.ensure_connection()
    return wrapper


def begin(database: DatabaseWrapper) -> None:
    database.cursor().execute(BEGIN)


def is_one_next(file: Path) -> bool:
    turn = opened_turn(str(file))
    try:
        fcntl.flock(turn, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(turn)
    return False


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(base, "GIVES_WAY_SECONDS", 60.0)
    return tmp_path / "a.db"


def transaction(database: DatabaseWrapper) -> None:
    begin(database)
    database.connection.execute("COMMIT")


def statement(database: DatabaseWrapper) -> None:
    with database.cursor() as cursor:
        cursor.execute("\nINSERT INTO a VALUES (1)")


@pytest.mark.parametrize("write", [transaction, statement])
def test_who_waits_to_write_begins_before_those_that_follow_the_present_one(
    file: Path, write: Callable[[DatabaseWrapper], None]
) -> None:
    present, waiting = opened(file), opened(file)
    present.connection.execute("CREATE TABLE a (b)")
    begun: list[str] = []

    def wait() -> None:
        write(waiting)
        begun.append("waiting")

    begin(present)
    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: is_one_next(file), seconds=60, what="a transaction that begins next")
    present.connection.execute("COMMIT")
    begin(present)
    thread.join()
    begun.append("present")
    present.connection.execute("COMMIT")
    assert begun == ["waiting", "present"]
    assert not is_one_next(file)
    for database in (present, waiting):
        database.close()


def test_a_statement_that_can_never_write_fails_at_once(file: Path) -> None:
    """The connection reads what another one has changed since."""
    reading, writing = opened(file), opened(file)
    writing.connection.execute("CREATE TABLE a (b)")
    writing.connection.executemany("INSERT INTO a VALUES (?)", [(number,) for number in range(1_000)])
    rows = reading.connection.execute("SELECT b FROM a")
    rows.fetchone()
    statement(writing)
    with pytest.raises(OperationalError, match="locked"):
        statement(reading)
    rows.close()
    for database in (reading, writing):
        database.close()


def test_a_process_that_stands_still_does_not_keep_others_from_writing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "GIVES_WAY_SECONDS", 0.0)
    database = opened(file)
    turn = opened_turn(str(file))
    fcntl.flock(turn, fcntl.LOCK_EX)
    begin(database)
    database.connection.execute("ROLLBACK")
    os.close(turn)
    database.close()
