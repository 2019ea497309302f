"""Rows written many at a time, without the ORM's cost for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

import orjson
from django.db import connection, models

from apflow_site.db.connections import IS_SQLITE
from tasks.fields import JsonTextField

T = TypeVar("T")
VALUES_AT_ONCE: Final = 15_000
"""The values of one INSERT on SQLite, which allows 32,766. After each, other threads get the interpreter: beside two of them that
compute, each row by itself took twice as long, and the write lock is held meanwhile."""


def db_time(moment: datetime | None) -> str | None:
    """Return a moment in UTC as a raw parameter: the text that Django itself stores in SQLite, and that PostgreSQL reads."""
    if moment is None:
        return None
    text = moment.isoformat(" ", "microseconds")
    return text[:26] if IS_SQLITE else text


def insert_many(rows: Iterable[models.Model], model: type[models.Model]) -> None:
    """INSERT the rows, all columns given. Raises IntegrityError."""
    statement, columns = _insert(model)
    found = [_values(row, columns) for row in rows]
    with connection.cursor() as cursor:
        if len(found) == 1:  # the other ways cost more for one row
            cursor.execute(statement, found[0])
        elif IS_SQLITE:
            size = VALUES_AT_ONCE // len(columns)
            whole = len(found) - len(found) % size
            for some in batched(found[:whole], size):
                more = f", ({marks(columns)})" * (size - 1)
                cursor.execute(statement + more, list(chain.from_iterable(some)))
            cursor.executemany(statement, found[whole:])
        elif found:
            cursor.execute(_insert_records(model), [records(found, [name for name, _ in columns])])


class Computed(NamedTuple):
    """A value that the database computes: an SQL expression and its parameters."""

    expression: str
    parameters: Sequence[str]


def insert_computed(row: models.Model, name: str, value: Computed) -> None:
    """INSERT the row, all columns given but that one, which the database computes. Raises IntegrityError."""
    statement, columns = _insert(type(row))
    place = [column for column, _ in columns].index(name)
    before, after = _values(row, columns[:place]), _values(row, columns[place + 1 :])
    expressions = ", ".join([*["%s"] * len(before), f"({value.expression})", *["%s"] * len(after)])
    with connection.cursor() as cursor:
        cursor.execute(
            f"{statement.partition('VALUES')[0]}VALUES ({expressions})", [*before, *value.parameters, *after]
        )


def records(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> str:
    """Return the rows as JSON, from which PostgreSQL makes rows again.

    That costs less than a parameter for each value, and less than a list for each column.
    """
    return orjson.dumps([dict(zip(names, row, strict=True)) for row in rows]).decode()


def marks(values: Sequence[object]) -> str:
    """Placeholders for a list of values in a raw statement."""
    return ", ".join(["%s"] * len(values))


def batched(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Return the values in pieces that one statement can name."""
    return (values[start : start + size] for start in range(0, len(values), size))


Convert = Callable[[Any], Any] | None


def _values(row: models.Model, columns: Iterable[tuple[str, Convert]]) -> tuple[Any, ...]:
    return tuple([convert(getattr(row, name)) if convert else getattr(row, name) for name, convert in columns])


@cache
def _insert(model: type[models.Model]) -> tuple[str, list[tuple[str, Convert]]]:
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)]
    names = ", ".join(f'"{field.column}"' for field in fields)
    statement = f'INSERT INTO "{model._meta.db_table}" ({names}) VALUES ({marks(fields)})'  # noqa: S608  (names of our own models)
    columns = list[tuple[str, Convert]]()
    for field in fields:
        if isinstance(field, JsonTextField):
            columns.append((field.attname, _dump))
        else:
            columns.append((field.attname, db_time if isinstance(field, models.DateTimeField) else None))
    return statement, columns


@cache
def _insert_records(model: type[models.Model]) -> str:
    """Return the INSERT on PostgreSQL of `records`."""
    start = _insert(model)[0].partition(" VALUES")[0]
    _, _, columns = start.partition(" (")
    return f'{start} SELECT {columns[:-1]} FROM json_populate_recordset(NULL::"{model._meta.db_table}", %s::json)'  # noqa: S608  (names of our own models)


def _dump(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
