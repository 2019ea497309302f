"""Queries that every request asks: written once, by the ORM, which takes longer to write one than the database to answer it."""

from collections.abc import Callable
from functools import cached_property
from inspect import signature
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


class Prepared(Generic[Row]):
    """A query whose parameters are texts, which it gets by name each time."""

    def __init__(self, build: Callable[..., QuerySet[Row]]) -> None:
        self._build = build

    def first(self, **values: str) -> Row | None:
        """The row that the query finds for these values."""
        model, statement, places = self._statement
        parameters = [values.get(place, place) if isinstance(place, str) else place for place in places]
        return next(iter(model._default_manager.raw(statement, parameters)), None)

    @cached_property
    def _statement(self) -> tuple[type[Row], str, tuple[object, ...]]:
        """The table's model, the statement, and for each of its parameters a name or a value that is always the same."""
        query = self._build(**{name: name for name in signature(self._build).parameters})
        statement, places = query.query.sql_with_params()
        return query.model, statement, places
