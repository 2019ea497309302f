"""From the params of a request to a typed object. Unknown names are refused, with the name that was probably meant."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta, Struct, inspect

from a2a.core.conditions import Condition, Problem
from tasks.rules.exceptions import InvalidParams

MOST_SHOWN = 100
JSON_WORDS = MappingProxyType({"str": "string", "int": "integer", "float": "number", "bool": "boolean"})
Text = Annotated[str, Meta(min_length=1, max_length=255)]
Texts = str | list[Text]
"""A list, or one text in which commas separate them."""


class Params(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The base of all parameter objects. Absent and null mean the same for a parameter that has a default."""

    ALIASES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Other names that a client may use, and the field each stands for."""
    NULLABLE: ClassVar[frozenset[str]] = frozenset()
    """The parameters of which null is a value, and does not mean that they are absent."""
    HINTS: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Why a name that a client may well try is refused."""

    CONDITIONS: ClassVar[tuple[Condition, ...]] = ()
    """What must hold between the parameters."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Raises InvalidParams naming every unknown parameter, or the first wrong value."""
        params = cls.named(value)
        problems = [*_unknown(params, cls), *_doubled(params, cls.ALIASES)]
        if problems:
            raise InvalidParams(problems)
        params = {
            cls.ALIASES.get(name, name): value
            for name, value in params.items()
            if value is not None or name in cls.NULLABLE
        }
        try:
            parsed = msgspec.convert(params, cls)
        except msgspec.ValidationError as error:
            raise InvalidParams([_problem_of(error, cls)]) from None
        problems = list(parsed.contradictions())
        if problems:
            raise InvalidParams(problems)
        return parsed

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        """The parameters by name. Raises InvalidParams for a list, except where a method takes one."""
        if not isinstance(value, dict):
            raise InvalidParams([("params", "give the parameters by name, as an object")])
        return value

    def contradictions(self) -> list[Problem]:
        """What is wrong between parameters that are each well formed: one problem for each condition that they break."""
        return [problem for condition in self.CONDITIONS if (problem := condition.problem(self))]


def texts(value: Texts | None) -> list[str]:
    """The list that was meant."""
    if value is None or isinstance(value, list):
        return value or []
    return [text for part in value.split(",") if (text := part.strip())]


def event_number(event_id: int | str) -> int:
    """The sequence number that an event id is. Raises InvalidParams."""
    if not re.fullmatch("[0-9]{1,18}", str(event_id)):
        raise InvalidParams([("last_event_id", "not the id of an event: a whole number such as 17")])
    return int(event_id)


def _unknown(params: dict[str, Any], cls: type[Params]) -> list[Problem]:
    # The comparison takes its time, so neither many names nor long ones are worth it.
    known = [*cls.__struct_fields__, *cls.ALIASES]
    unknown = [name[:MOST_SHOWN] for name in params if name not in known]
    return [(name, cls.HINTS.get(name) or unknown_reason(name, known)) for name in unknown[:MOST_SHOWN]]


def unknown_reason(name: str, known: Sequence[str]) -> str:
    """Why a name is refused, with the one that was probably meant."""
    if not known:
        return "unknown parameter: there are none here"
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
    return f"unknown parameter, {hint}"


def _doubled(params: dict[str, Any], aliases: Mapping[str, str]) -> list[Problem]:
    """One value under two names is fine, two values are not."""
    problems = []
    seen = {name: name for name in params if name not in aliases}
    for name in (name for name in params if name in aliases):
        other = seen.setdefault(aliases[name], name)
        if params[other] != params[name]:
            problems.append((name, f"means the same as '{other}', and the two differ"))
    return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What msgspec says is wrong with a value. `place` is its path, such as `limit` or `tasks[0].name`; empty: the whole value.

    `missing` or `unknown` is the name of a field that is so in the object at that place.
    """

    place: str
    reason: str
    missing: str | None = None
    unknown: str | None = None

    @property
    def field(self) -> str:
        """The path of the field that is wrong."""
        names = (self.place or None, self.missing, self.unknown)
        return ".".join(name for name in names if name is not None)


def fault_of(error: msgspec.ValidationError) -> Fault:
    """Read msgspec's text, such as "Expected `int`, got `str` - at `$.limit`": it has no other form."""
    reason, _, place = str(error).partition(" - at `$")
    place = place.strip(".`")
    if found := re.fullmatch("Object missing required field `(.+)`", reason):
        return Fault(place=place, reason=reason, missing=found[1])
    if found := re.fullmatch("Object contains unknown field `(.*)`", reason, re.DOTALL):
        return Fault(place=place, reason=reason, unknown=found[1][:MOST_SHOWN])
    return Fault(place=place, reason=reason)


def _problem_of(error: msgspec.ValidationError, cls: type[Params]) -> Problem:
    """Field and reason, in the words of JSON."""
    fault = fault_of(error)
    if fault.missing is not None:
        return fault.field, "required"
    if fault.unknown is not None:
        known = [each.name for each in _object_of(_type_of(fault.place, cls)).fields]
        return fault.field, unknown_reason(fault.unknown, known)
    if fault.reason.startswith("Invalid enum value"):
        return fault.field, f"expected one of {', '.join(_choices(_type_of(fault.field, cls)))}"
    reason = re.sub("`(.+?)`", _in_json_words, fault.reason).replace("Expected", "expected")
    return fault.field, reason


def _in_json_words(types: re.Match[str]) -> str:
    return " or ".join(JSON_WORDS.get(name, name) for name in types[1].split(" | "))


def _type_of(place: str, cls: type[Params]) -> inspect.Type:
    """What may stand in a place such as `limit`, `status[0]` or `webhook_config.method`."""
    kind = inspect.type_info(cls)
    for name in place.split("."):
        kind = next(field.type for field in _object_of(kind).fields if field.name == name.partition("[")[0])
    return kind


def _object_of(kind: inspect.Type) -> inspect.StructType:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return next(each for each in kinds if isinstance(each, inspect.StructType))


def _choices(kind: inspect.Type) -> list[str]:
    match kind:
        case inspect.LiteralType(values=values):
            return [str(value) for value in values]
        case inspect.EnumType(cls=enum):
            return [member.value for member in enum]
        case inspect.UnionType(types=kinds):
            return next((found for found in map(_choices, kinds) if found), [])
    return []
