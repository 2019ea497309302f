"""Conditions between the parameters of a method: declared once, validated, published as JSON Schema."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from tasks.rules.strict_json import Json

Problem = tuple[str, str]
"""The name of an invalid parameter, and the reason."""


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """`field` is allowed only if `other` has the value."""

    field: str
    other: str
    value: Any = True
    reason: str = ""

    def problem(self, params: Struct) -> Problem | None:
        if not _is_given(params, self.field) or getattr(params, self.other) == self.value:
            return None
        needed = self.other if self.value is True else f"{self.other} {self.value}"
        return self.field, f"only with {needed}" + (f": {self.reason}" if self.reason else "")

    def schema(self) -> Json:
        given = {"properties": {self.field: {"not": {"enum": [None, False]}}}, "required": [self.field]}
        then = {"properties": {self.other: {"const": self.value}}, "required": [self.other]}
        return {"if": given, "then": then}


@dataclass(frozen=True, slots=True)
class RequiredWith:
    """`field`, a string or a list, is required and must not be empty if `other` has the value."""

    field: str
    other: str
    value: Any

    def problem(self, params: Struct) -> Problem | None:
        if getattr(params, self.other) != self.value or not _is_empty(getattr(params, self.field)):
            return None
        return self.field, f"required with {self.other} {self.value}"

    def schema(self) -> Json:
        has_value = {"properties": {self.other: {"const": self.value}}, "required": [self.other]}
        not_empty = {"type": ["array", "string"], "minItems": 1, "minLength": 1}
        return {"if": has_value, "then": {"properties": {self.field: not_empty}, "required": [self.field]}}


@dataclass(frozen=True, slots=True)
class NotWith:
    """`field` and `other` cannot be combined."""

    field: str
    other: str
    reason: str

    def problem(self, params: Struct) -> Problem | None:
        is_broken = _is_given(params, self.field) and _is_given(params, self.other)
        return (self.field, self.reason) if is_broken else None

    def schema(self) -> Json:
        return {"not": {"required": [self.field, self.other]}}


Condition = OnlyWith | RequiredWith | NotWith


def schema_of(conditions: Iterable[Condition], *, among: Iterable[str]) -> Json:
    """Return the conditions between these parameters, as keywords for the JSON Schema of their object."""
    names = {*among}
    schemas = [each.schema() for each in conditions if {each.field, each.other} <= names]
    return {"allOf": schemas} if schemas else {}


def _is_given(params: Struct, name: str) -> bool:
    """Return whether the parameter differs from its default."""
    return bool(getattr(params, name) != _defaults(type(params))[name])


def _is_empty(value: Any) -> bool:
    """Return whether a list, or a string of items separated by commas, has no items."""
    return not (value.replace(",", "").strip() if isinstance(value, str) else value)


@cache
def _defaults(kind: type[Struct]) -> Mapping[str, Any]:
    return {field.name: field.default for field in fields(kind)}
