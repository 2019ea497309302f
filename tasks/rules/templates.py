"""Templates: places in a text that inputs fill. A place names a path (`{{fetch.json.title}}`), and that is all it can do.

One pass: what a value brings along is not looked at again. No attributes, no calls, no formats.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

NAME: Final = r"[A-Za-z0-9_-]+"
PATH: Final = rf"{NAME}(?:\.{NAME})*"
DOUBLE: Final = re.compile(rf"\{{\{{\s*(?P<path>{PATH})\s*\}}\}}")
"""`{{path}}`, for texts in which a single brace is likely to mean something else."""
ANY: Final = re.compile(rf"\{{\{{\s*(?P<double>{PATH})\s*\}}\}}|\{{(?P<single>[A-Za-z_][A-Za-z0-9_-]*(?:\.{NAME})*)\}}")
"""`{{path}}` and `{path}`, as CrewAI's templates are written."""


class NoValue(Exception):
    """A template has places without a value. The message names them."""

    def __init__(self, paths: list[str], known: list[str]) -> None:
        names = ", ".join(f"'{path}'" for path in paths)
        given = ", ".join(f"'{name}'" for name in known) if known else "none"
        super().__init__(f"no value for {names}; the inputs have: {given}")


def fill(text: str, values: Mapping[str, Any], *, places: re.Pattern[str] = DOUBLE) -> str:
    """The text with each place replaced by its value: a text as it is, anything else as JSON. Raises NoValue."""
    missing: dict[str, None] = {}

    def value(match: re.Match[str]) -> str:
        path = next(filter(None, match.groups()))
        try:
            return _as_text(_at(path, values))
        except LookupError:
            missing[path] = None
            return ""

    filled = places.sub(value, text)
    if missing:
        raise NoValue(list(missing), list(values))
    return filled


def followed(value: Any, ids: Mapping[str, str], *, places: re.Pattern[str] = DOUBLE) -> Any:
    """The JSON value, in whose texts the places that name a result by one of these ids name it by the other instead."""
    if not ids:
        return value
    match value:
        case str():
            return places.sub(lambda place: _led(place, ids), value)
        case list():
            return [followed(each, ids, places=places) for each in value]
        case dict():
            return {name: followed(each, ids, places=places) for name, each in value.items()}
        case _:
            return value


def _led(place: re.Match[str], ids: Mapping[str, str]) -> str:
    """In double braces, since an id may begin with a digit."""
    first, dot, rest = next(filter(None, place.groups())).partition(".")
    return f"{{{{{ids[first]}{dot}{rest}}}}}" if first in ids else place[0]


def _at(path: str, values: Mapping[str, Any]) -> Any:
    """Raises LookupError."""
    found: Any = values
    for step in path.split("."):
        if isinstance(found, list) and step.isdecimal():
            found = found[int(step)]
        elif isinstance(found, Mapping):
            found = found[step]
        else:
            raise LookupError(path)
    return found


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
