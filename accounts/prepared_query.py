"""Queries of every request, compiled to SQL once.

The ORM needs longer to compile them than the database to run them.
"""

from collections.abc import Callable
from functools import cached_property
from inspect import signature
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


class Prepared(Generic[Row]):
    """A query with string parameters, passed by name.

    `build` returns the queryset; its parameter names are those of the query.
    """

    def __init__(self, build: Callable[..., QuerySet[Row]]) -> None:
        self._build = build

    def first(self, **values: str) -> Row | None:
        """The first row of the query for these values, or None."""
        model, statement, places = self._statement
        parameters = [values.get(place, place) if isinstance(place, str) else place for place in places]
        return next(iter(model._default_manager.raw(statement, parameters)), None)

    @cached_property
    def _statement(self) -> tuple[type[Row], str, tuple[object, ...]]:
        """The model, the SQL, and for each placeholder the name of a parameter or a constant."""
        query = self._build(**{name: name for name in signature(self._build).parameters})
        statement, places = query.query.sql_with_params()
        return query.model, statement, places
