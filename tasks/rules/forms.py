"""Forms: flat JSON Schemas that say what people fill in when a task asks them a question.

Pure: no Django. A form is an object of texts, numbers, integers, booleans and choices, so that every
interface can show it, without JavaScript too; and of files, for which people use the dashboard or a client.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from tasks.rules.files import asks_for_file, asks_for_files, no_files
from tasks.rules.schema import TooCostly, check_cost, fault, is_light, mismatch
from tasks.rules.strict_json import Json

EMAIL: Final = re.compile(r"[^\s@<>\"]{1,64}@[^\s@<>\"]{1,254}")
MOST_CHARACTERS: Final = 2_000
"""The greatest length of a text in one of these formats."""


def fault_of_format(name: Any, text: Any) -> str | None:
    """Describe, as the rest of a sentence, why the text does not have the format; None if it has, or if it is no text."""
    if not isinstance(text, str):
        return None
    is_fit, what = FORMATS[name]
    return None if len(text) <= MOST_CHARACTERS and is_fit(text) else f"must be {what}"


def _is_time(text: str) -> bool:
    """Return whether it is a date, a time and a zone."""
    return (
        "T" in text.upper()
        and _is_read(datetime.fromisoformat, text)
        and datetime.fromisoformat(text).tzinfo is not None
    )


def _is_uri(text: str) -> bool:
    if any(character.isspace() or not character.isprintable() for character in text) or not _is_read(urlsplit, text):
        return False
    parts = urlsplit(text)
    return bool(parts.scheme and (parts.netloc or parts.path))


def _is_read(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


FORMATS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = MappingProxyType(
    {
        "email": (lambda text: EMAIL.fullmatch(text) is not None, "an e-mail address"),
        "uri": (_is_uri, "a URL with its scheme, such as https://example.com/"),
        "date": (lambda text: len(text) == 10 and _is_read(date.fromisoformat, text), "a date, such as 2027-01-31"),
        "date-time": (_is_time, "a time with its zone, such as 2027-01-31T09:00:00+01:00"),
    }
)
"""The name of each, the check of a text, and what the text must be."""


MAX_FIELDS: Final = 50
MAX_NAME_CHARACTERS: Final = 100
OF_FORM: Final = frozenset(
    {"$schema", "type", "title", "description", "properties", "required", "additionalProperties"}
)
OF_FIELD: Final = frozenset({"type", "title", "description", "default", "enum"})
OF_FILE: Final = frozenset({"type", "title", "description", "format", "items", "minItems", "maxItems"})
NUMERIC: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
BY_TYPE: Final = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": NUMERIC,
    "integer": NUMERIC,
    "boolean": frozenset[str](),
}
HOW: Final = (
    'Write {"type": "object", "properties": {"amount": {"type": "number", "title": "Amount"}}, "required": ["amount"]}: '
    "each field is a string, number, integer or boolean, has an enum of such values, or the format file."
)


def fault_of_form(schema: Json) -> str | None:
    """Describe, as the rest of a sentence, why the schema is no form; None if it is one."""
    return next(_faults(schema), None)


def _faults(schema: Json) -> Iterator[str]:
    fields = schema.get("properties")
    if schema.get("type", "object") != "object" or not isinstance(fields, dict) or not fields:
        yield f"is not a flat JSON Schema. {HOW}"
        return
    if unknown := sorted(schema.keys() - OF_FORM):
        yield f"has the keyword '{unknown[0][:100]}', which a form does not have. {HOW}"
    if schema.get("additionalProperties", False) is not False:
        yield "allows fields that it does not describe. Leave additionalProperties out"
    if len(fields) > MAX_FIELDS:
        yield f"has {len(fields):,} fields; at most {MAX_FIELDS} are allowed"
    try:
        check_cost(schema)
    except TooCostly as error:
        yield str(error)
    if problem := fault(schema):
        yield f"is not a valid JSON Schema: {problem}"
        return
    for name, rule in fields.items():
        yield from _faults_of_field(name, rule)
    if unknown := [name for name in schema.get("required", []) if name not in fields]:
        yield f"requires '{unknown[0][:100]}', which is not one of its properties"


def _faults_of_field(name: str, rule: Any) -> Iterator[str]:
    where = f"properties.{name[:MAX_NAME_CHARACTERS]}"
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        yield f"has the field {name[:MAX_NAME_CHARACTERS]!r}; a name has 1 to {MAX_NAME_CHARACTERS} printable characters"
    if not isinstance(rule, dict) or not ("enum" in rule or "type" in rule or asks_for_file(rule)):
        yield f"has no type at {where}. {HOW}"
        return
    if asks_for_file(rule) or asks_for_files(rule):
        if unknown := sorted(rule.keys() - OF_FILE):
            yield f"has the keyword '{unknown[0][:100]}' at {where}. Allowed there: {', '.join(sorted(OF_FILE))}"
        if asks_for_file(rule) and rule.get("type", "object") != "object":
            yield f'has the format "file" at {where} with another type: a file is an object. Leave the type out'
        return
    kind = rule.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in BY_TYPE):
        yield f"is not flat at {where}.type: it must be one of {', '.join(BY_TYPE)}"
        return
    allowed = OF_FIELD | (BY_TYPE[kind] if kind else frozenset())
    if unknown := sorted(rule.keys() - allowed):
        yield f"has the keyword '{unknown[0][:100]}' at {where}. Allowed there: {', '.join(sorted(allowed))}"
    if not all(isinstance(value, str | int | float) for value in rule.get("enum", ["text"])):
        yield f"must have texts, numbers, true or false at {where}.enum"
    of_type = {"type": kind} if kind else {}
    if any(mismatch(of_type, value) for value in rule.get("enum", [])):
        yield f"has a value at {where}.enum that is not of the type {kind}"
    if "format" in rule and rule["format"] not in FORMATS:
        yield f"has an unknown format at {where}. Known are {', '.join(FORMATS)}"
        return
    if "default" in rule and (problem := _misfit(rule, rule["default"])):
        yield f"has a default at {where} that does not fit: {problem}"


def filled_form(schema: Json, answer: Any) -> tuple[Json, list[tuple[str, str]]]:
    """Return the answer with the defaults of fields that were left out, and (field, reason) of each problem."""
    if not isinstance(answer, dict):
        return {}, [("answer", f"must be an object with the fields of the form: {', '.join(schema['properties'])}")]
    fields: Json = schema["properties"]
    defaults = {name: rule["default"] for name, rule in fields.items() if "default" in rule and name not in answer}
    filled = answer | defaults
    problems = []
    for name, value in filled.items():
        if (rule := fields.get(name)) is None:
            problems.append((f"answer.{name}", f"is not a field of the form. Its fields: {', '.join(fields)}"))
        elif not is_light(rule, value):
            problems.append((f"answer.{name}", "is too long for the schema of its field"))
        elif problem := _misfit(rule, value):
            problems.append((f"answer.{name}", problem))
    missing = [name for name in schema.get("required", []) if name not in filled]
    return filled, problems + [(f"answer.{name}", "is required") for name in missing]


def _misfit(rule: Json, value: Any) -> str | None:
    """Describe, as the rest of a sentence, why the value does not fit the rule of its field; None if it does."""
    if wrong := no_files(rule, value, ""):
        return wrong[0][1]
    if problem := mismatch(rule, value):
        return problem
    if asks_for_file(rule):
        return None
    return fault_of_format(rule["format"], value) if "format" in rule else None


def described_form(schema: Json) -> str:
    """Return the fields in one line, for people whose client shows only text."""
    described = []
    for name, rule in schema["properties"].items():
        kind = {"string": "text", "boolean": "true or false"}.get(rule.get("type"), rule.get("type"))
        if asks_for_file(rule) or asks_for_files(rule):
            kind = "file" if asks_for_file(rule) else "files"
        if "enum" in rule:
            kind = "one of " + ", ".join(map(str, rule["enum"]))
        described.append(f"{name} ({kind}{', required' if name in schema.get('required', []) else ''})")
    return ", ".join(described)
