"""Inbound hooks: the filter that a delivery has to pass, and the mapping of its parts to inputs or to an event. Pure.

Filters are the conditions of `params.when` without `task`, about the delivery: `/body/action`, `/headers/x-github-event`.
Mappings have places: `{{body.issue.title}}`, `{{headers.x-github-event}}`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tasks.rules import conditions
from tasks.rules.places import filled, places_in, source_of
from tasks.rules.strict_json import Json

BODY, HEADERS = SOURCES = ("body", "headers")
DELIVERY: Final = "delivery"
STARTED, SENT, ANSWERED, FILTERED, FAILED = OUTCOMES = ("started", "sent", "answered", "filtered", "failed")
Problem = tuple[str, str]


def passes(condition: Json | None, delivery: Json) -> bool:
    """Return whether a delivery, an object of SOURCES, passes the filter. Raises TooMuchToCompare."""
    if condition is None:
        return True
    return conditions.holds(conditions.about(condition, DELIVERY), {DELIVERY: delivery})


def mapped(given: Json, delivery: Mapping[str, Any], *, max_characters: int) -> Json:
    """Return the object with its places filled from a delivery. Raises CannotFill."""
    return filled(given, delivery, known=SOURCES, left=(), max_characters=max_characters)


def problems_of_filter(condition: Any) -> Iterator[Problem]:
    """Yield what is wrong with a filter."""
    for field in conditions.naming_tasks(condition, "filter"):
        yield field, "is not known here: the condition is about the delivery"
    found = conditions.about(condition, DELIVERY)
    yield from conditions.problems(found, "filter")
    for path, place in _paths_in(condition, "filter"):
        if path.split("/")[1:2] not in ([BODY], [HEADERS]):
            yield place, "must begin with /body or /headers"


def problems_of_mapping(given: Any, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the places of a mapping."""
    for where, place in places_in(given, path):
        if source_of(place) not in SOURCES:
            yield where, f"'{{{{{place}}}}}' must begin with body or headers, such as {{{{body.id}}}}"


def _paths_in(condition: Any, place: str, depth: int = 1) -> Iterator[tuple[str, str]]:
    if not isinstance(condition, dict) or depth > conditions.DEEPEST:
        return
    parts = list(conditions.parts_of(condition, place))
    if not parts and "op" in condition and isinstance(condition.get("path", ""), str):
        yield condition.get("path", ""), f"{place}.path"
    for part, where in parts:
        yield from _paths_in(part, where, depth + 1)
