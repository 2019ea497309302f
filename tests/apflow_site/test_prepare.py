"""Processes that start together: one of them migrates, while the others wait."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fork_server import run_command
from tests.servers import environment_of, new_database


@pytest.mark.both_engines
def test_processes_with_data_folders_of_their_own_migrate_one_empty_database(tmp_path: Path) -> None:
    """As pods do that start together: a lock file cannot tell them of each other."""

    def migrate(number: int) -> tuple[int, str]:
        done = run_command("migrate", env=environment_of(url, tmp_path / str(number)))
        return done.returncode, done.stderr if done.returncode else ""

    with new_database(is_bare=True) as url, ThreadPoolExecutor() as threads:
        assert list(threads.map(migrate, range(3))) == [(0, "")] * 3
