"""Processes that start together: one of them migrates, while the others wait."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from apflow_site import prepare
from tests.fork_server import run_command
from tests.ports import free_port
from tests.servers import environment_of, new_database


@pytest.mark.both_engines
def test_processes_with_data_folders_of_their_own_migrate_one_empty_database(tmp_path: Path) -> None:
    """As pods do that start together: a lock file cannot tell them of each other."""

    def migrate(number: int) -> tuple[int, str]:
        done = run_command("migrate", env=environment_of(url, tmp_path / str(number)))
        return done.returncode, done.stderr if done.returncode else ""

    with new_database(is_bare=True) as url, ThreadPoolExecutor() as threads:
        assert list(threads.map(migrate, range(3))) == [(0, "")] * 3


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_the_start_waits_while_postgresql_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if connection.vendor == "sqlite":
        return  # it has no server
    connection.close()
    parameters = {"host": "127.0.0.1", "port": str(free_port())}  # nothing listens there
    options = connection.settings_dict["OPTIONS"]
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "OPTIONS", options | parameters)
        away.setitem(connection.settings_dict, "HOST", "")
        away.setitem(connection.settings_dict, "PORT", "")
        with monkeypatch.context() as impatient:
            impatient.setitem(prepare.STARTING, "Connection refused", 0.5)
            with pytest.raises(OperationalError, match="refused"):
                prepare.await_database()
        assert [record.__dict__["event"] for record in caplog.records] == ["database.waiting"]
        monkeypatch.setattr(prepare, "sleep", lambda _: away.undo())  # the server has started
        prepare.await_database()
    assert connection.is_usable()
