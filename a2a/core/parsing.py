"""From the params of a request to a typed object. Unknown names are refused, with the name that was probably meant."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta, Struct, inspect

from a2a.core.conditions import Condition, Problem, problems_of
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
            raise InvalidParams([_problem_of(str(error), cls)]) from None
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
        """What is wrong between parameters that are each well formed."""
        return problems_of(self, self.CONDITIONS)


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


def _problem_of(message: str, cls: type[Params]) -> Problem:
    """Field and reason from msgspec's text, such as "Expected `int`, got `str` - at `$.limit`"."""
    text, _, place = message.partition(" - at `$.")
    field = place.rstrip("`")
    if missing := re.fullmatch("Object missing required field `(.+)`", text):
        return _inside(field, missing[1]), "required"
    if unknown := re.fullmatch("Object contains unknown field `(.*)`", text, re.DOTALL):
        known = [each.name for each in _object_of(_type_of(field, cls)).fields]
        return _inside(field, unknown[1][:MOST_SHOWN]), unknown_reason(unknown[1][:MOST_SHOWN], known)
    reason = re.sub("`(.+?)`", _in_json_words, text).replace("Expected", "expected")
    if reason.startswith("Invalid enum value"):
        reason = f"expected one of {', '.join(_choices(_type_of(field, cls)))}"
    return field, reason


def _in_json_words(types: re.Match[str]) -> str:
    return " or ".join(JSON_WORDS.get(name, name) for name in types[1].split(" | "))


def _inside(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


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
