"""Parses the params of a request into a typed object, which may declare conditions between its parameters.

Errors for unknown names suggest a similar one. Conditions are validated, and published as JSON Schema.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import Meta, Struct, inspect
from msgspec.structs import fields

from tasks.models import Run
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

Problem = tuple[str, str]
"""The name of an invalid parameter, and the reason."""
MOST_SHOWN = 100
FIRST_RUN = 1
JSON_WORDS = MappingProxyType({"str": "string", "int": "integer", "float": "number", "bool": "boolean"})
Text = Annotated[str, Meta(min_length=1, max_length=255)]
Texts = str | list[Text]
"""A list, or one string of items separated by commas."""


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
        value = getattr(params, self.field)
        has_items = bool(value.replace(",", "").strip() if isinstance(value, str) else value)  # commas separate items
        if getattr(params, self.other) != self.value or has_items:
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


@cache
def _defaults(kind: type[Struct]) -> Mapping[str, Any]:
    return {field.name: field.default for field in fields(kind)}


P = TypeVar("P", bound="Params")


class Params(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base class of all parameter objects. Null counts as absent for a parameter with a default."""

    ALIASES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Alternative names that clients may use → the name of the field."""
    NULLABLE: ClassVar[frozenset[str]] = frozenset()
    """The parameters for which null is a value, not "absent"."""
    HINTS: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Reasons for the rejection of names that clients are likely to try."""

    CONDITIONS: ClassVar[tuple[Condition, ...]] = ()
    """Conditions between the parameters."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Parse and validate parameters.

        Raises InvalidParams with every unknown parameter, or the first invalid value, or all
        contradictions.
        """
        params = cls.named(value)
        # Comparing names is slow, so both their number and their length are limited.
        known = [*cls.__struct_fields__, *cls.ALIASES]
        unknown = [name[:MOST_SHOWN] for name in params if name not in known][:MOST_SHOWN]
        problems = [(name, cls.HINTS.get(name) or unknown_reason(name, known)) for name in unknown]
        problems += _doubled(params, cls.ALIASES)
        if problems:
            raise InvalidParams(problems)
        params = {
            cls.ALIASES.get(name, name): value
            for name, value in params.items()
            if value is not None or name in cls.NULLABLE
        }
        try:
            parsed = msgspec.convert(params, cls)
        except msgspec.ValidationError:
            parsed = _with_whole_numbers(params, cls)
        problems = list(parsed.contradictions())
        if problems:
            raise InvalidParams(problems)
        return parsed

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        """Return the parameters by name.

        Raises InvalidParams for positional ones; methods may override this.
        """
        if not isinstance(value, dict):
            raise InvalidParams([("params", "must be an object with the parameters by name")])
        return value

    @property
    def is_short(self) -> bool:
        """Whether a method that only reads may do so in the event loop (`apflow_site.db.at_once`)."""
        return False

    def contradictions(self) -> list[Problem]:
        """One problem for each condition between parameters that is violated."""
        return [problem for condition in self.CONDITIONS if (problem := condition.problem(self))]


def _with_whole_numbers(params: dict[str, Any], cls: type[P]) -> P:
    """Parse parameters of which one does not fit, but 7.0 is an integer in JSON Schema. Raises InvalidParams."""
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in params.items()
    }
    try:
        return msgspec.convert(whole, cls)
    except msgspec.ValidationError as error:
        raise InvalidParams([_problem_of(error, cls)]) from None


def texts(value: Texts | None) -> list[str]:
    """Return the items as a list."""
    if value is None or isinstance(value, list):
        return value or []
    return [text for part in value.split(",") if (text := part.strip())]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventId:
    """The id of an event in a stream: its number in its run and, for runs after the first, the run.

    Without `run_id` it is of the first run of a tree, or comes from a client that knows only numbers.
    """

    seq: int
    run_id: str | None = None

    @classmethod
    def of(cls, run: Run, seq: int) -> Self:
        return cls(seq=seq, run_id=None if run.number == FIRST_RUN else run.id)

    @classmethod
    def parse(cls, text: int | str) -> Self:
        """Raise InvalidParams."""
        parts = re.fullmatch(r"([0-9]{1,18})(?::([!-~]{1,255}))?", str(text))
        if parts is None:
            raise InvalidParams([("last_event_id", "must be the id of an event, such as 17 or 17:<run_id>")])
        return cls(seq=int(parts[1]), run_id=parts[2])

    def is_of(self, run: Run) -> bool:
        """Return whether the event may be of this run. A number alone is not of a later run than the first."""
        return run.number == FIRST_RUN if self.run_id is None else self.run_id == run.id

    def __str__(self) -> str:
        return str(self.seq) if self.run_id is None else f"{self.seq}:{self.run_id}"


def event_number(text: str) -> int:
    """Return the number in an event id, or a number of another kind, of a URL. Raises InvalidParams."""
    return EventId.parse(text).seq


def unknown_reason(name: str, known: Sequence[str]) -> str:
    """Return the reason for rejecting a name, with the closest known one."""
    if not known:
        return "unknown parameter: this method has no parameters"
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
    return f"unknown parameter, {hint}"


def _doubled(params: dict[str, Any], aliases: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each parameter that was sent under several names with different values."""
    problems = []
    seen = {name: name for name in params if name not in aliases}
    for name in (name for name in params if name in aliases):
        other = seen.setdefault(aliases[name], name)
        if params[other] != params[name]:
            problems.append((name, f"is an alias of '{other}', but has another value"))
    return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A validation error of msgspec.

    `place` is the path of the value, such as `limit` or `tasks[0].name`; empty for the whole value.
    `missing` or `unknown` is the name of a missing or unknown field of the object at that path.
    """

    place: str
    reason: str
    missing: str | None = None
    unknown: str | None = None

    @property
    def field(self) -> str:
        """The path of the invalid field."""
        names = (self.place or None, self.missing, self.unknown)
        return ".".join(name for name in names if name is not None)


def fault_of(error: msgspec.ValidationError) -> Fault:
    """Parse the message of msgspec, such as "Expected `int`, got `str` - at `$.limit`".

    The exception has no attributes for its parts.
    """
    reason, _, place = str(error).partition(" - at `$")
    place = place.strip(".`")
    if found := re.fullmatch("Object missing required field `(.+)`", reason):
        return Fault(place=place, reason=reason, missing=found[1])
    if found := re.fullmatch("Object contains unknown field `(.*)`", reason, re.DOTALL):
        return Fault(place=place, reason=reason, unknown=found[1][:MOST_SHOWN])
    return Fault(place=place, reason=reason)


def _problem_of(error: msgspec.ValidationError, cls: type[Params]) -> Problem:
    """Return the field and the reason, with the type names of JSON."""
    fault = fault_of(error)
    if fault.missing is not None:
        return fault.field, "required"
    if fault.unknown is not None:
        known = [each.encode_name for each in _object_of(_type_of(fault.place, cls)).fields]
        return fault.field, unknown_reason(fault.unknown, known)
    if fault.reason.startswith("Invalid enum value"):
        return fault.field, f"expected one of {', '.join(_choices(_type_of(fault.field, cls)))}"
    reason = re.sub("`(.+?)`", _in_json_words, fault.reason).replace("Expected", "expected")
    return fault.field, reason


def _in_json_words(types: re.Match[str]) -> str:
    return " or ".join(JSON_WORDS.get(name, name) for name in types[1].split(" | "))


def _type_of(place: str, cls: type[Params]) -> inspect.Type:
    """Return the type at a path such as `limit`, `status[0]` or `webhook_config.method`."""
    kind = inspect.type_info(cls)
    for name in place.split("."):
        kind = next(field.type for field in _object_of(kind).fields if field.encode_name == name.partition("[")[0])
    return kind


def _object_of(kind: inspect.Type) -> inspect.StructType:
    """Return the object that a type is, may be, or is a list of."""
    return next(_objects_in(kind))


def _objects_in(kind: inspect.Type) -> Iterator[inspect.StructType]:
    match kind:
        case inspect.StructType():
            yield kind
        case inspect.Metadata(type=inner) | inspect.ListType(item_type=inner):
            yield from _objects_in(inner)
        case inspect.UnionType(types=kinds):
            for each in kinds:
                yield from _objects_in(each)


def _choices(kind: inspect.Type) -> list[str]:
    match kind:
        case inspect.LiteralType(values=values):
            return [str(value) for value in values]
        case inspect.EnumType(cls=enum):
            return [member.value for member in enum]
        case inspect.UnionType(types=kinds):
            return next((found for found in map(_choices, kinds) if found), [])
        case inspect.ListType(item_type=inner) | inspect.Metadata(type=inner):
            return _choices(inner)
    return []
