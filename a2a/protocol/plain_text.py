"""Requests in text messages: JSON in a text, and a skill at its beginning. Pure."""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

from tasks.rules.schema import mismatch
from tasks.rules.strict_json import Json, MalformedJson, decode

TEXT_INPUTS: Final = ("prompt", "text", "message", "requirement", "query", "question")
"""Names of text inputs. The first one in the input schema of the executor receives the text."""


class Named(NamedTuple):
    """A skill that a text begins with, and the rest of the text."""

    skill_id: str
    rest: str


def object_in(text: str, *, nesting: int) -> Json | None:
    """Return the JSON object that the text is; None if it is something else. Raises MalformedJson if it only looks like one."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    value = decode(text.encode(), nesting=nesting)
    return value if isinstance(value, dict) else None


def named_in(text: str, names: Iterable[tuple[str, str]], *, needs_colon: bool) -> Named | None:
    """Return the skill whose id or name the text begins with, in upper or lower case.

    `names` are ids and names. The longest match counts. `needs_colon`: a colon must follow a name,
    so that a sentence that begins with a common word is only a sentence.
    """
    found = [
        (len(start), Named(skill_id, rest))
        for skill_id, name in names
        for start, is_id in ((skill_id, True), (name, False))
        if (rest := _after(text, start, needs_colon=needs_colon and not is_id)) is not None
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def _after(text: str, start: str, *, needs_colon: bool) -> str | None:
    """Return the text after its beginning; None if it begins otherwise."""
    match = re.match(rf"{re.escape(start)}(?:(?P<colon>\s*:)|(?![\w-]))", text, re.IGNORECASE)
    if match is None or (needs_colon and match["colon"] is None):
        return None
    return text[match.end() :].strip()


def text_input(schema: Json) -> str:
    """Return the name of the input that receives a text: one for texts, else the first that is required, else the first."""
    properties = schema.get("properties", {})
    known = [name for name in TEXT_INPUTS if name in properties]
    required = [name for name in schema.get("required", ()) if name in properties]
    return next(iter((*known, *required, *properties)), "text")


def inputs_of(text: str, schema: Json, *, nesting: int) -> Json:
    """Return the inputs that a text after the name of a skill gives: a JSON object, or the value of one input.

    Raises MalformedJson for a text that only looks like a JSON object.
    """
    if not text:
        return {}
    name, properties = text_input(schema), schema.get("properties", {})
    try:
        found = object_in(text, nesting=nesting)
    except MalformedJson:
        if name in TEXT_INPUTS:
            return {name: text}
        raise
    if found is not None and (name not in TEXT_INPUTS or not properties or found.keys() & properties.keys()):
        return found
    return {name: _value(text, properties.get(name, {}))}


def as_text(inputs: Json, schema: Json) -> str:
    """Return the text for which `inputs_of` returns these inputs, as short as possible."""
    properties = schema.get("properties", {})
    given = {name: value for name, value in inputs.items() if value != properties.get(name, {}).get("default", inputs)}
    name = text_input(schema)
    if given.keys() == {name} and isinstance(given[name], str | int | float):
        return str(given[name])
    return orjson.dumps(given).decode()


def _value(text: str, schema: Json) -> Any:
    """Return the text, or the JSON in it if the schema allows no text."""
    if mismatch({"type": "object", "properties": {"text": schema}}, {"text": text}) is None:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
