"""Templates: texts with placeholders, paths into the inputs such as `{{fetch.json.title}}`.

One pass: a value that contains a placeholder is not expanded again. No attributes, calls or
formats.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tasks.rules.conditions import is_index

NAME: Final = r"[A-Za-z0-9_-]+"
PATH: Final = rf"{NAME}(?:\.{NAME})*"
DOUBLE: Final = re.compile(rf"\{{\{{\s*(?P<path>{PATH})\s*\}}\}}")
"""`{{path}}`, for texts in which a single brace probably has another meaning."""
LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""Text that may stand for a value in a path."""
LITERAL: Final = "{{{{"
PLACE: Final = re.compile(rf"(?P<literal>{re.escape(LITERAL)})|{DOUBLE.pattern}")
"""`{{path}}`, or four braces that stand for two."""
ANY: Final = re.compile(
    rf"(?P<literal>{re.escape(LITERAL)})|\{{\{{\s*(?P<double>{PATH})\s*\}}\}}|\{{(?P<single>[A-Za-z_][A-Za-z0-9_-]*(?:\.{NAME})*)\}}"
)
"""`{{path}}` and `{path}`, as in CrewAI's templates, or four braces that stand for two."""


NAMED: Final = 20


class CannotFill(Exception):
    """A template cannot be filled. The message says why."""


class NoValue(CannotFill):
    """A template has placeholders without a value. The message names them."""

    def __init__(self, paths: list[str], known: list[str]) -> None:
        given = _listed(known) if known else "none"
        super().__init__(f"no value for {_listed(paths)}; the inputs have: {given}")


TOO_LONG: Final = (
    "the texts would have more than the {:,} characters that limits.result_bytes allows. "
    "Name a part of a long input, such as {{{{fetch.json.title}}}}, or raise the limit"
)


class TooLong(CannotFill):
    """The filled texts of a task would be too long together."""

    def __init__(self, max_characters: int) -> None:
        super().__init__(TOO_LONG.format(max_characters))


class Filler:
    """Fills the texts of one task: `max_characters` limits all of them together.

    The length is counted before a value is inserted, so that a short text with many placeholders
    for a long value costs no memory.
    """

    def __init__(self, values: Mapping[str, Any], *, places: re.Pattern[str] = PLACE, max_characters: int) -> None:
        self._values = values
        self._places = places
        self._max_characters = max_characters
        self._characters = 0
        self._texts: dict[str, str] = {}  # by path, since each may be wanted thousands of times

    def fill(self, text: str) -> str:
        """Replace each placeholder by its value: a string as it is, others as JSON. Raises CannotFill."""
        pieces: list[str] = []
        missing: dict[str, None] = {}
        end = 0
        for match in self._places.finditer(text):
            path = next(filter(None, match.groups()))
            self._add(pieces, text[end : match.start()])
            end = match.end()
            if path == LITERAL:
                self._add(pieces, LITERAL[:2])
                continue
            try:
                if path not in self._texts:
                    value = _at(path, self._values)
                    self._texts[path] = value if isinstance(value, str) else orjson.dumps(value).decode()
                self._add(pieces, self._texts[path])
            except LookupError:
                missing[path] = None
        self._add(pieces, text[end:])
        if missing:
            raise NoValue(list(missing), list(self._values))
        return "".join(pieces)

    def _add(self, pieces: list[str], piece: str) -> None:
        self._characters += len(piece)
        if self._characters > self._max_characters:
            raise TooLong(self._max_characters)
        pieces.append(piece)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more


def rename_placeholders(value: Any, ids: Mapping[str, str], *, places: re.Pattern[str] = PLACE) -> Any:
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
    if place[0] == LITERAL:
        return LITERAL
    first, dot, rest = next(filter(None, place.groups())).partition(".")
    return f"{{{{{ids[first]}{dot}{rest}}}}}" if first in ids else place[0]


def _at(path: str, values: Mapping[str, Any]) -> Any:
    """Return the value at a path. Raises LookupError."""
    found: Any = values
    for step in path.split("."):
        if isinstance(found, list) and is_index(step):
            found = found[int(step)]
        elif isinstance(found, Mapping):
            found = found[step]
        else:
            raise LookupError(path)
    return found
