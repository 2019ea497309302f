"""Nightly: the real packages write their databases anew, and everything is imported, also while they run."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aipartnerupflow.cli.importing import downloaded
from aipartnerupflow.importing.sources import open_source
from tests.aipartnerupflow.importing.predecessors import (
    PREDECESSORS,
    Predecessor,
    environment,
    environment_variables,
    fill,
    old_server,
)
from tests.aipartnerupflow.importing.recorded import TABLE, assert_same, imported
from tests.servers import new_database

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.both_engines,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(3600),  # it installs the packages, and they are slow
    pytest.mark.parametrize("predecessor", PREDECESSORS, ids=lambda each: each.name),
]
TREES, TASKS = 100, 100
BULK = Path(__file__).with_name("bulk.py")


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """An empty database for the predecessor: DuckDB, or PostgreSQL where our tests run on it."""
    if os.environ.get("TEST_ENGINE") == "postgres":
        with new_database(is_bare=True) as url:
            yield url
    else:
        yield f"duckdb:///{folder / 'old.duckdb'}"


def test_what_it_stores_and_runs_now(predecessor: Predecessor, tmp_path: Path) -> None:
    with database(tmp_path) as url:
        with old_server(predecessor, url, tmp_path) as server:
            fill(server, predecessor)
        with old_server(predecessor, url, tmp_path) as server:
            shown = server.tasks()
            with downloaded(server.url, None) as source:
                assert imported(source).tasks == len(shown)
        assert_same(shown)
        with open_source(url, table=TABLE) as source:
            again = imported(source)
        assert (again.tasks, again.tasks_here_already, again.left_out) == (0, len(shown), [])
        assert_same(shown)


def test_ten_thousand_tasks(predecessor: Predecessor, tmp_path: Path) -> None:
    with database(tmp_path) as url:
        subprocess.run(
            [str(environment(predecessor)), str(BULK), predecessor.package, url, str(TREES), str(TASKS)],
            env=environment_variables(predecessor, url, tmp_path),
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        seconds = []
        for stored in (TREES * TASKS, 0):
            began = time.perf_counter(), time.process_time()
            with open_source(url, table=TABLE) as source:
                assert imported(source).tasks == stored
            seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        with old_server(predecessor, url, tmp_path) as server:
            assert_same(server.tasks())
    sys.stdout.write(f"{predecessor.name}: (wall, processor) seconds of the import and of another one: {seconds}\n")
