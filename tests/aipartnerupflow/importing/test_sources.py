"""What the import refuses to read, and what it finds in a database that is not sound."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest

from aipartnerupflow.importing.sources import CannotRead, Source, download, open_source
from tests.aipartnerupflow.importing.predecessors import DATABASES
from tests.aipartnerupflow.importing.recorded import TABLE, imported
from tests.aipartnerupflow.importing.replay import answering
from tests.ports import free_port

RECORDED = DATABASES / "v0_9.duckdb"


def refusal(given: object, *, table: str = TABLE) -> str:
    with pytest.raises(CannotRead) as refused, open_source(str(given), table=table):
        pass
    return str(refused.value)


@contextmanager
def sqlite(folder: Path, *rows: tuple[str | None, ...]) -> Iterator[Source]:
    """A database of (id, parent_id, status, origin_type, original_task_id, result)."""
    file = folder / "old.sqlite3"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            f"CREATE TABLE {TABLE} (id, parent_id, status, origin_type, original_task_id, result, name DEFAULT 'A task', "
            "created_at DEFAULT '2026-01-01 00:00:00')"
        )
        columns = "id, parent_id, status, origin_type, original_task_id, result"
        connection.executemany(f"INSERT INTO {TABLE} ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)
    with open_source(f"sqlite:///{file}", table=TABLE) as source:
        yield source


def test_files_and_urls_that_are_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no database at all")
    assert refusal(tmp_path / "notes").endswith("neither of DuckDB nor of SQLite. Give the predecessor's database.")
    assert refusal(tmp_path / "gone") == f"Cannot read {tmp_path / 'gone'}: No such file or directory."
    assert refusal(tmp_path).endswith("Is a directory.")
    assert "For a running server use --url" in refusal("http://localhost:8000")
    assert refusal(f"postgresql://user:secret@127.0.0.1:{free_port()}/db").startswith("Cannot read the PostgreSQL")
    assert "secret" not in refusal(f"postgresql://user:secret@127.0.0.1:{free_port()}/db")


def test_a_file_of_duckdb_without_its_wal_has_no_table(tmp_path: Path) -> None:
    shutil.copy(RECORDED, tmp_path)
    assert "has no table 'apflow_tasks'. Give the predecessor's database (of DuckDB with its file .wal" in refusal(
        tmp_path / RECORDED.name
    )


def test_a_damaged_file_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "old.duckdb").write_bytes(RECORDED.read_bytes()[:6000])
    (tmp_path / "old.sqlite3").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    for name in ("old.duckdb", "old.sqlite3"):
        message = refusal(tmp_path / name)
        assert message.startswith(f"Cannot read {tmp_path / name}: ")
        assert message.endswith(". If the predecessor can, start it, and import with --url.")
        assert "\n" not in message


def test_duckdb_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert "is not installed. Install it: pip install 'duckdb<2,>=1.4', or in a clone" in refusal(RECORDED)


def test_another_table_is_named(tmp_path: Path) -> None:
    assert "no table 'the\"tasks'" in refusal(RECORDED, table='the"tasks')
    with closing(duckdb.connect(str(tmp_path / "old.duckdb"))) as database:
        database.execute('CREATE TABLE "the""tasks" (id VARCHAR, name VARCHAR)')
    assert "no column 'parent_id' in the table" in refusal(tmp_path / "old.duckdb", table='the"tasks')


def test_a_file_that_the_predecessor_still_uses(tmp_path: Path) -> None:
    file = tmp_path / "old.duckdb"
    program = f"import duckdb; held = duckdb.connect({str(file)!r}); print(flush=True); input()"
    with closing(duckdb.connect(str(file))):
        pass

    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        message = refusal(file)
        other.communicate(b"\n")
    assert message.endswith("Stop the predecessor, or import from it while it runs, with --url.")


@pytest.mark.django_db(transaction=True)
def test_tasks_outside_all_trees_are_left_out(tmp_path: Path) -> None:
    rows = [("root", None), ("child", "root"), ("orphan", "gone"), ("below", "orphan"), ("x", "y"), ("y", "x")]
    with sqlite(tmp_path, *((*row, "pending", None, None, None) for row in rows)) as source:
        report = imported(source)
    assert report.tasks == 2
    assert [each.id for each in report.left_out] == ["below", "orphan", "x", "y"]
    assert report.left_out[1].reason == ("It is in no tree: its parent 'gone' does not exist, or is in no tree either.")


@pytest.mark.django_db(transaction=True)
def test_one_bad_value_leaves_out_one_tree(tmp_path: Path) -> None:
    rows = [("bad", None, "completed", None, None, "NaN"), ("good", None, "completed", None, None, '"text"')]
    with sqlite(tmp_path, *rows) as source:
        report = imported(source)
    assert (report.trees, [each.id for each in report.left_out]) == (1, ["bad"])


def test_a_linked_task_has_what_it_is_linked_to(tmp_path: Path) -> None:
    rows = [
        ("original", None, "completed", "create", None, '{"x": 1}'),
        ("link", None, "completed", "link", "original", "null"),
        ("broken", None, "completed", "link", "gone", "null"),
        ("copy", None, "completed", "copy", "original", '{"x": 2}'),
    ]
    with sqlite(tmp_path, *rows) as source:
        results = {root_id: task["result"] for root_id, task in source.tasks()}
    assert results == {"original": '{"x": 1}', "link": '{"x": 1}', "broken": None, "copy": '{"x": 2}'}


@pytest.mark.parametrize(
    ("reply", "status", "told"),
    [
        (
            {"error": {"message": "Internal error", "data": "no database"}},
            500,
            "500: Internal error. no database. Stop",
        ),
        ("<html>", 502, "answered 502, without JSON"),
        ({"detail": "Unauthorized"}, 401, "401: "),
        ({"result": {"tasks": []}}, 200, "it returned no list of tasks"),
    ],
)
def test_a_server_that_does_not_answer_as_the_predecessor(
    tmp_path: Path, reply: object, status: int, told: str
) -> None:
    with answering(reply, status=status) as (url, _), pytest.raises(CannotRead) as refused:
        download(url, None, tmp_path / "tasks.sqlite3")
    assert told in str(refused.value)


def test_no_server_and_no_url(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=r"did not answer: .* import its database"):
        download(f"http://127.0.0.1:{free_port()}", None, tmp_path / "1")
    with pytest.raises(CannotRead, match=r"did not answer|is not a URL"):
        download("old.example.com", None, tmp_path / "2")


def test_one_request_asks_for_all_tasks_with_the_token(tmp_path: Path) -> None:
    with answering([]) as (url, requests):
        download(f"{url}/", "a token", tmp_path / "tasks.sqlite3")
    assert requests == [("tasks.list", {"root_only": False, "limit": 10**9}, "Bearer a token")]
    with open_source(str(tmp_path / "tasks.sqlite3"), table=TABLE) as source:
        assert source.count() == 0
