"""Custom model fields."""

from typing import TYPE_CHECKING, Any

import orjson
from django.db import models

if TYPE_CHECKING:  # Django's fields are generic only for the type checker
    TextField = models.TextField[Any, Any]
else:
    TextField = models.TextField


class JsonTextField(TextField):
    """Any JSON value, stored as text on every database.

    PostgreSQL's jsonb reorders keys and rewrites numbers; text returns the same bytes on every
    database and costs a third of Django's JSONField. None in Python is NULL in the database.
    """

    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return None if value is None else orjson.loads(value)

    def to_python(self, value: Any) -> Any:
        return value

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else orjson.dumps(value).decode()
