"""Statements from a declaration: the table, the state that a row must be in, and the columns of the rows that are given.

A row is a mapping of columns to values. PostgreSQL takes many rows as JSON, to which it gives the types of the table.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import orjson
from django.db import DatabaseError, connection

from apflow_site.db.connections import IS_SQLITE

Row = dict[str, Any]
Columns = tuple[str, ...]
DIVISION_BY_ZERO: Final = "22012"
"""PostgreSQL's code of the error with which it refuses a statement that wrote another number of rows than expected."""


class SomeRowUnchanged(DatabaseError):
    """A row was not in the state that its statement expects. Nothing of the transaction may be kept."""


class Write(ABC):
    """A statement that writes rows of one kind."""

    key: Columns = ()

    @abstractmethod
    def one(self, columns: Columns) -> str:
        """Return the statement for one row, whose values it names as `%(column)s`."""

    def many(self, columns: Columns) -> str | None:
        """Return PostgreSQL's statement for many rows, `%(rows)s` as JSON; None if each is written alone.

        `%(keys)s` are their values in the first column of `key`.
        """
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Write):
    """Changes the row with these values of `key`, if `guard`, a condition, is true of it.

    None in a column of `kept` leaves the value that is there. Columns in `guard` have the name of the table before them.
    """

    table: str
    key: Columns = ("id",)
    guard: str = "true"
    kept: Columns = ()

    def one(self, columns: Columns) -> str:
        return self._statement({name: f"%({name})s" for name in columns})

    def many(self, columns: Columns) -> str:
        rows = f"json_populate_recordset(NULL::{self.table}, %(rows)s::json) AS new"
        # With the join alone, a plan that was made while the table was small would read all of it.
        known = f"{self.table}.{self.key[0]} = ANY(%(keys)s)"
        return self._statement({name: f"new.{name}" for name in columns}, f" FROM {rows}", known)

    def _statement(self, values: Mapping[str, str], origin: str = "", *which: str) -> str:
        values = dict(values) | {name: f"COALESCE({values[name]}, {self.table}.{name})" for name in self.kept}
        changes = ", ".join(f"{name} = {value}" for name, value in values.items() if name not in self.key)
        conditions = [*which, *(f"{self.table}.{name} = {values[name]}" for name in self.key)]
        return f"UPDATE {self.table} SET {changes}{origin} WHERE {' AND '.join([*conditions, self.guard])}"  # noqa: S608  (names of ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert(Write):
    """Adds the row. If one is there with these values of `key`, the columns of `replaced` are written into it; without such columns it stays."""

    table: str
    key: Columns = ()
    replaced: Columns = ()

    def one(self, columns: Columns) -> str:
        return self._statement(columns, f"VALUES ({', '.join(f'%({name})s' for name in columns)})")

    def many(self, columns: Columns) -> str:
        rows = f"json_populate_recordset(NULL::{self.table}, %(rows)s::json)"
        return self._statement(columns, f"SELECT {', '.join(columns)} FROM {rows}")  # noqa: S608  (names of ours)

    def _statement(self, columns: Columns, values: str) -> str:
        replacing = ", ".join(f"{name} = excluded.{name}" for name in self.replaced)
        clash = f"({', '.join(self.key)}) DO UPDATE SET {replacing}" if replacing else "DO NOTHING"
        return f"INSERT INTO {self.table} ({', '.join(columns)}) {values} ON CONFLICT {clash}"


@dataclass(frozen=True, slots=True)
class Statement(Write):
    """Any other statement; it names its values as `%(name)s`."""

    text: str

    def one(self, columns: Columns) -> str:
        return self.text


def write(how: Write, rows: Sequence[Row]) -> None:
    """Write the rows, which have the same columns.

    Raises SomeRowUnchanged if one of them is not written. In a pipeline PostgreSQL says so later, by an error that
    `is_unchanged` recognizes.
    """
    columns = tuple(rows[0])
    with connection.cursor() as cursor:
        if not IS_SQLITE and len(rows) > 1 and (statement := _many(how, columns)) is not None:
            keys = [row[name] for row in rows for name in how.key[:1]]
            cursor.execute(statement, {"rows": orjson.dumps(rows).decode(), "keys": keys, "expected": len(rows)})
            return
        statement = _one(how, columns)
        if not IS_SQLITE:
            statement, rows = _expecting(statement), [row | {"expected": 1} for row in rows]
        if len(rows) == 1:  # the other way costs more for one row
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)
        if IS_SQLITE and cursor.rowcount != len(rows):
            raise SomeRowUnchanged


@cache
def _one(how: Write, columns: Columns) -> str:
    return how.one(columns)


@cache
def _many(how: Write, columns: Columns) -> str | None:
    statement = how.many(columns)
    return None if statement is None else _expecting(statement)


@cache
def _expecting(statement: str) -> str:
    """Return the statement, which PostgreSQL refuses unless it writes `%(expected)s` rows."""
    return f"WITH written AS ({statement} RETURNING 1) SELECT 1 / (count(*) = %(expected)s)::integer FROM written"  # noqa: S608  (statements of ours)


def is_unchanged(error: BaseException) -> bool:
    """Return whether PostgreSQL refused a statement since it wrote another number of rows than expected."""
    return getattr(error.__cause__, "sqlstate", None) == DIVISION_BY_ZERO
