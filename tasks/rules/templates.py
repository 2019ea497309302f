"""Templates: texts with placeholders, paths into the inputs such as `{{fetch.json.title}}`.

One pass: a value that contains a placeholder is not expanded again. No attributes, calls or
formats.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

NAME: Final = r"[A-Za-z0-9_-]+"
PATH: Final = rf"{NAME}(?:\.{NAME})*"
DOUBLE: Final = re.compile(rf"\{{\{{\s*(?P<path>{PATH})\s*\}}\}}")
"""`{{path}}`, for texts in which a single brace probably has another meaning."""
ANY: Final = re.compile(rf"\{{\{{\s*(?P<double>{PATH})\s*\}}\}}|\{{(?P<single>[A-Za-z_][A-Za-z0-9_-]*(?:\.{NAME})*)\}}")
"""`{{path}}` and `{path}`, as in CrewAI's templates."""


class NoValue(Exception):
    """A template has placeholders without a value. The message names them."""

    def __init__(self, paths: list[str], known: list[str]) -> None:
        names = ", ".join(f"'{path}'" for path in paths)
        given = ", ".join(f"'{name}'" for name in known) if known else "none"
        super().__init__(f"no value for {names}; the inputs have: {given}")


def fill(text: str, values: Mapping[str, Any], *, places: re.Pattern[str] = DOUBLE) -> str:
    """Replace each placeholder by its value: a string as it is, others as JSON. Raises NoValue."""
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


def rename_placeholders(value: Any, ids: Mapping[str, str], *, places: re.Pattern[str] = DOUBLE) -> Any:
    """Return the JSON value with placeholders in its strings renamed.

    `ids` maps the old id of a result to the new one.
    """
    if not ids:
        return value
    match value:
        case str():
            return places.sub(lambda place: _renamed_place(place, ids), value)
        case list():
            return [rename_placeholders(item, ids, places=places) for item in value]
        case dict():
            return {name: rename_placeholders(item, ids, places=places) for name, item in value.items()}
        case _:
            return value


def _renamed_place(place: re.Match[str], ids: Mapping[str, str]) -> str:
    """Rename one placeholder. Written with double braces, since an id may begin with a digit."""
    first, dot, rest = next(filter(None, place.groups())).partition(".")
    return f"{{{{{ids[first]}{dot}{rest}}}}}" if first in ids else place[0]


def _at(path: str, values: Mapping[str, Any]) -> Any:
    """Return the value at a path. Raises LookupError."""
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
