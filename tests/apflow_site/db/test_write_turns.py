"""Transactions on SQLite that wait for each other: one that has waited begins before those that come after it."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from apflow_site.databases import database_settings, sqlite_url
from apflow_site.sqlite import base
from apflow_site.sqlite.base import DatabaseWrapper, opened_turn
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
    database._start_transaction_under_autocommit()


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


def test_a_transaction_that_waits_begins_before_those_that_follow_the_present_one(file: Path) -> None:
    present, waiting = opened(file), opened(file)
    begun: list[str] = []

    def wait() -> None:
        begin(waiting)
        begun.append("waiting")
        waiting.connection.execute("COMMIT")

    begin(present)
    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: is_one_next(file), seconds=60, what="a transaction that begins next")
    present.connection.execute("COMMIT")
    begin(present)
    begun.append("present")
    present.connection.execute("COMMIT")
    thread.join()
    assert begun == ["waiting", "present"]
    assert not is_one_next(file)
    for database in (present, waiting):
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
