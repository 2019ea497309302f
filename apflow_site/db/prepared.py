"""Queries of every request, compiled to SQL once.

The ORM needs ten times longer to build and compile such a query than the database to run it.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, lru_cache
from inspect import Parameter, signature
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import QuerySet
from django.db.models.base import Model, ModelState

from apflow_site.db.at_once import reader

Row = TypeVar("Row")
MOST_SHAPES: Final = 256
"""The number of forms of one query that stay compiled. The least recently used ones are compiled again."""


class Prepared(Generic[Row]):
    """A query whose SQL depends on its shape only.

    `build` returns the queryset. Its keyword-only parameters are strings that the query compares with;
    they change from call to call. Its other parameters are the shape: hashable values that may change the SQL,
    such as a limit or the caller's rights.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, Row]]) -> None:
        self._build = build
        self._names = [
            name for name, each in signature(build).parameters.items() if each.kind is Parameter.KEYWORD_ONLY
        ]
        self._statement = lru_cache(MOST_SHAPES)(self._compiled)

    def first(self, *shape: Hashable, **values: str) -> Row | None:
        """Return the first row of the query for these values, or None."""
        return next(iter(self.rows(*shape, **values)), None)

    def rows(self, *shape: Hashable, **values: str) -> list[Row]:
        """Return all rows of the query for these values."""
        return self._statement(*shape).rows(values)

    def tuples(self, *shape: Hashable, **values: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of columns, as the driver of the database returns them.

        On SQLite a time, in UTC, is a text in an event loop (`at_once`), has no zone on a thread, and a truth may be 0 or 1.
        """
        return self._statement(*shape).tuples(values)

    def _compiled(self, *shape: Hashable) -> "Statement[Row]":
        return Statement(self._build(*shape, **{name: name for name in self._names}))


class Statement(Generic[Row]):
    """The SQL of a queryset, and how its rows become what the queryset yields."""

    def __init__(self, queryset: QuerySet[Any, Row]) -> None:
        self._compiler = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        self._sql, self._places = self._compiler.as_sql()
        self._sql_of_sqlite = self._sql % (("?",) * len(self._places))
        self._texts = [(number, place) for number, place in enumerate(self._places) if isinstance(place, str)]
        self._converters = self._compiler.get_converters([column for column, *_ in self._compiler.select])
        is_of_models = queryset.query.default_cols  # else the columns are those of `values_list`
        self._made: Callable[[Sequence[Any]], Any] = _instances(self._compiler) if is_of_models else tuple

    def rows(self, values: Mapping[str, str]) -> list[Row]:
        """Return the rows for these values of the placeholders."""
        return [self._made(row) for row in self._compiler.apply_converters(self.tuples(values), self._converters)]

    def tuples(self, values: Mapping[str, str]) -> list[tuple[Any, ...]]:
        """Return the rows for these values as they are in the database."""
        parameters = [*self._places]
        for number, text in self._texts:
            parameters[number] = values.get(text, text)  # it is a placeholder, or a constant of the query
        if (here := reader()) is not None:
            return here.execute(self._sql_of_sqlite, parameters).fetchall()
        with connection.cursor() as cursor:
            cursor.execute(self._sql, parameters)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found


def _instances(compiler: Any) -> Callable[[Sequence[Any]], Any]:
    """Return a function that makes a model instance, with its annotations, of a row.

    It does what `Model.from_db` does, but without the signals `pre_init` and `post_init`, which nothing here listens
    to, and in a fifth of the time.
    """
    model, places = compiler.klass_info["model"], compiler.klass_info["select_fields"]
    names = {place: compiler.select[place][0].target.attname for place in places}
    names |= {place: name for name, place in compiler.annotation_col_map.items()}
    values_of, attributes = itemgetter(*names), tuple(names.values())

    def instance(row: Sequence[Any]) -> Any:
        made = model.__new__(model)
        state = ModelState()
        state.adding, state.db = False, DEFAULT_DB_ALIAS
        vars(made).update(zip(attributes, values_of(row), strict=True), _state=state)
        return made

    return instance


M = TypeVar("M", bound=Model)


def unsaved(model: type[M], values: Mapping[str, Any]) -> M:
    """Return an instance that is not stored, with these values of columns and the defaults of the others.

    It does what the constructor does, but without its signals, as `_instances`, and in a third of the time.
    """
    made = model.__new__(model)
    state = {name: values[name] if name in values else default() for name, default in _defaults(model)}
    vars(made).update(state, _state=ModelState())
    return made


@cache
def _defaults(model: type[Model]) -> list[tuple[str, Callable[[], Any]]]:
    return [(field.attname, field.get_default) for field in model._meta.concrete_fields]
