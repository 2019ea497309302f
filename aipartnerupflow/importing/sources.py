"""The predecessor's database: DuckDB, SQLite or PostgreSQL, read tree by tree.

All values are read as text, in which the three databases agree.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from tasks.rules.extras import how_to_install

Cell = str | None
Query = Callable[[str], Iterator[tuple[Cell, ...]]]

ROWS: Final = 1_000
"""The number of rows that are read from the database at a time."""
NEEDED: Final = ("id", "parent_id", "name", "status", "created_at")
OF_LINKS: Final = ("inputs", "params", "schemas", "result", "error")
"""The fields of a linked task that apflow does not store: it reads the task to which it is linked."""
LINKED: Final = "linked_id"
"""The column with the id of that task, null if it does not exist."""
SQLITE_MAGIC: Final = b"SQLite format 3\0"
DUCKDB_MAGIC: Final = b"DUCK"
HOW_TO_INSTALL: Final = how_to_install("import")

TREES: Final = """
    WITH RECURSIVE tree(id, root_id, depth, began) AS (
        SELECT id, id, 0, created_at FROM {table} WHERE parent_id IS NULL
        UNION ALL
        SELECT t.id, tree.root_id, tree.depth + 1, tree.began FROM {table} AS t JOIN tree ON t.parent_id = tree.id
    )
"""
TASKS: Final = """
    SELECT tree.root_id, {columns} FROM tree JOIN {table} AS t ON t.id = tree.id {links}
    ORDER BY tree.began, tree.root_id, tree.depth, t.created_at, t.id
"""
UNREACHABLE: Final = "SELECT id, name, parent_id FROM {table} WHERE id NOT IN (SELECT id FROM tree) ORDER BY id"
CATALOG: Final = (
    "SELECT column_name FROM information_schema.columns "
    "WHERE table_schema = current_schema() AND table_name = '{table}' ORDER BY ordinal_position"
)
SQLITE_CATALOG: Final = "SELECT name FROM pragma_table_info('{table}')"


class CannotRead(Exception):
    """The source cannot be read. The message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A table of the predecessor's tasks. `title` is what messages call it; it contains no password."""

    title: str
    table: str
    columns: tuple[str, ...]
    query: Query

    def count(self) -> int:
        ((number,),) = self.query(f"SELECT CAST(count(*) AS VARCHAR) FROM {self.table}")  # noqa: S608
        return int(number or 0)

    def tasks(self) -> Iterator[tuple[str, dict[str, Cell]]]:
        """Yield the id of its root, and each task. The tasks of a tree follow each other, from the root downwards.

        A linked task of apflow has what it is linked to.
        """
        has_links = {"origin_type", "original_task_id"} <= set(self.columns)
        links = f"LEFT JOIN {self.table} AS o ON t.origin_type = 'link' AND o.id = t.original_task_id"
        texts = []
        for name in self.columns:
            value = f't."{name}"'
            if has_links and name in OF_LINKS:
                value = f'CASE WHEN t.origin_type = \'link\' THEN o."{name}" ELSE t."{name}" END'
            texts.append(f"CAST({value} AS VARCHAR)")
        texts.append("o.id" if has_links else "NULL")
        statement = (TREES + TASKS).format(table=self.table, columns=", ".join(texts), links=links if has_links else "")
        for root_id, *cells in self.query(statement):
            yield str(root_id), dict(zip((*self.columns, LINKED), cells, strict=True))

    def unreachable(self) -> Iterator[tuple[str, str, str]]:
        """Yield the id, the name and the parent of each task that is in no tree."""
        for task_id, name, parent_id in self.query((TREES + UNREACHABLE).format(table=self.table)):
            yield str(task_id), str(name), str(parent_id)


def open_source(given: str, *, table: str) -> AbstractContextManager[Source]:
    """Open a file of DuckDB or SQLite, or a URL of DuckDB, SQLite or PostgreSQL, for reading.

    Raises CannotRead; so does the context.
    """
    scheme, is_url, rest = given.partition("://")
    engine = scheme.partition("+")[0]  # without the driver: postgresql+asyncpg
    if not is_url:
        return _file(Path(given), table)
    if engine in ("postgresql", "postgres"):
        return _postgresql(f"postgresql://{rest}", table)
    if engine in ("duckdb", "sqlite"):
        return _file(Path(rest.removeprefix("/").partition("?")[0]), table)
    raise CannotRead(
        f"'{scheme}://' is not the URL of a database. Give a file, or a URL with duckdb:///, sqlite:/// or "
        "postgresql://. For a running server use --url."
    )


def _file(path: Path, table: str) -> AbstractContextManager[Source]:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CannotRead(f"Cannot read {path}: {error.strerror}.") from None
    if head == SQLITE_MAGIC:
        return sqlite_source(path, table)
    if head[8:12] == DUCKDB_MAGIC:
        return _duckdb(path, table)
    raise CannotRead(f"{path} is a file neither of DuckDB nor of SQLite. Give the predecessor's database.")


@contextmanager
def sqlite_source(path: Path, table: str, *, title: str | None = None) -> Iterator[Source]:
    """Open a file of SQLite for reading. Raises CannotRead."""
    import sqlite3

    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield _source(title or str(path), table, partial(_fetched, connection.execute), catalog=SQLITE_CATALOG)
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


@contextmanager
def _duckdb(path: Path, table: str) -> Iterator[Source]:
    try:
        import duckdb
    except ImportError:
        raise CannotRead(f"{path} is a file of DuckDB, which is not installed. Install it: {HOW_TO_INSTALL}") from None

    try:
        with closing(duckdb.connect(str(path), read_only=True)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield _source(str(path), table, partial(_fetched, connection.execute))
    except duckdb.IOException as error:
        if "lock" not in str(error):
            raise _unreadable(path, error) from error
        raise CannotRead(
            f"{path} is in use by another process. Stop the predecessor, or import from it while it runs, with --url."
        ) from None
    except duckdb.Error as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CannotRead:
    """Return the error with the first line of the database's own: DuckDB adds a stack trace."""
    reason = str(error).strip().partition("\n")[0]
    return CannotRead(f"Cannot read {path}: {reason}. If the predecessor can, start it, and import with --url.")


def _fetched(execute: Callable[[str], Any], statement: str) -> Iterator[tuple[Cell, ...]]:
    found = execute(statement)
    while rows := found.fetchmany(ROWS):
        yield from rows


@contextmanager
def _postgresql(url: str, table: str) -> Iterator[Source]:
    import psycopg

    try:
        with psycopg.connect(url, options="-c TimeZone=UTC -c default_transaction_read_only=on") as connection:
            address = connection.info
            title = f"postgresql://{address.host}:{address.port}/{address.dbname}"
            yield _source(title, table, partial(_streamed, connection))
    except psycopg.Error as error:
        raise CannotRead(f"Cannot read the PostgreSQL database: {str(error).strip()}") from error


def _streamed(connection: Any, statement: str) -> Iterator[tuple[Cell, ...]]:
    with connection.cursor(name="tasks") as cursor:
        cursor.itersize = ROWS
        yield from cursor.execute(statement)


def _source(title: str, table: str, query: Query, *, catalog: str = CATALOG) -> Source:
    columns = tuple(str(name) for (name,) in query(catalog.format(table=table.replace("'", "''"))))
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        what = f"no column '{missing[0]}' in the table" if columns else "no table"
        raise CannotRead(
            f"{title} has {what} '{table}'. Give the predecessor's database (of DuckDB with its file .wal, if there is "
            "one), and with --table the name of its table of tasks, if it has another one."
        )
    quoted = '"{}"'.format(table.replace('"', '""'))
    return Source(title=title, table=quoted, columns=columns, query=query)


TABLE: Final = "apflow_tasks"
JSON_COLUMNS: Final = ("dependencies", "inputs", "params", "schemas", "result")
ALL: Final = 10**9
CONNECT_SECONDS: Final = 10.0
INSTEAD: Final = "Stop the predecessor, and import its database."


def download(url: str, token: str | None, file: Path) -> None:
    """Ask the server for all of its tasks, and store them. Raises CannotRead.

    A single request returns all of them: pages may overlap or have gaps, because the predecessor sorts by a time that
    all tasks of a tree may share; and version 0.9 stops after a thousand requests.
    """
    tasks = _call(url, token, "tasks.list", {"root_only": False, "limit": ALL})
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "id" in task for task in tasks):
        raise CannotRead(f"{url} is not a server of the predecessor: it returned no list of tasks.")
    columns = list(dict.fromkeys(name for task in tasks for name in task)) or list(NEEDED)
    names = ", ".join('"{}"'.format(name.replace('"', '""')) for name in columns)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"CREATE TABLE {TABLE} ({names})")
        connection.executemany(
            f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
            [[_cell(name, task.get(name)) for name in columns] for task in tasks],
        )
        connection.execute(f"CREATE INDEX by_id ON {TABLE} (id)")
        connection.execute(f"CREATE INDEX by_parent ON {TABLE} (parent_id)")


def _call(url: str, token: str | None, method: str, params: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # it may take minutes to read its database
    try:
        response = httpx.post(f"{url.rstrip('/')}/tasks", json=request, headers=headers, timeout=timeout)
        reply = json.loads(response.content)  # and not `orjson`, to which long integers are floats
    except httpx.InvalidURL as error:
        raise CannotRead(f"'{url}' is not a URL: {error}.") from None
    except httpx.HTTPError as error:
        raise CannotRead(f"{url} did not answer: {error}. {INSTEAD}") from None
    except ValueError:
        raise CannotRead(f"{url} answered {response.status_code}, without JSON. {INSTEAD}") from None
    if not isinstance(reply, dict) or "result" not in reply:
        fault = reply.get("error", reply) if isinstance(reply, dict) else reply
        texts = [fault.get("message"), fault.get("data")] if isinstance(fault, dict) else [fault]
        reason = " ".join(f"{text}." for text in texts if text)
        raise CannotRead(f"{url} answered {response.status_code}: {reason} {INSTEAD}")
    return reply["result"]


def _cell(column: str, value: Any) -> Cell:
    """Return the value as text, as databases return it."""
    if value is None or (isinstance(value, str) and column not in JSON_COLUMNS):
        return value
    return json.dumps(value)
