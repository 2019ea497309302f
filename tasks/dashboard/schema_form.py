"""Build a form from a flat or an executor's JSON Schema, and read the submitted inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings

from tasks.dashboard.json_text import format_json
from tasks.rules.files import asks_for_file, asks_for_files
from tasks.rules.strict_json import Json, MalformedJson, decode

#: Prefix of the form fields; the name of the input follows.
PREFIX: Final = "in."
#: Name of the field for inputs that the schema does not list.
MORE: Final = ""
INPUT_TYPES: Final = MappingProxyType({"email": "email", "uri": "url", "date": "date"})
EXAMPLES: Final = MappingProxyType({"date-time": "2027-01-31T09:00:00+01:00"})
"""Format → a text in it, for formats that have no field in browsers."""
AS_JSON: Final = frozenset({"json", "file", "files"})
"""The kinds of field whose text is JSON. A script puts the files that it has sent into the field."""
LONG_TEXTS: Final = frozenset({"prompt", "requirement", "body", "text", "stdin", "content"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input. `kind`: text, long_text, number, choice, flag, file, files, or json for any other value.

    `input_type` is that of HTML. `permit` allows to send the files (`tasks.services.files.permit_for`).
    """

    name: str
    title: str
    kind: str
    value: str
    is_required: bool
    hint: str
    default: str
    choices: list[str]
    problem: str
    input_type: str = "text"
    permit: str = ""


def fields_of(
    schema: Json,
    values: Mapping[str, str],
    problems: Mapping[str, str],
    *,
    permit: str = "",
    may_have_places: bool = False,
) -> list[Field]:
    """Build a field for each property of the schema, with its value and problem. Files can be sent with a `permit`.

    With `may_have_places`, browsers check no format: what a place fills in is not known yet.
    """
    required = schema.get("required", [])
    return [
        Field(
            name=name,
            title=rule.get("title", ""),
            kind=kind_of(rule, name),
            value=values.get(name, ""),
            is_required=name in required,
            hint=rule.get("description", ""),
            default=_as_text(rule["default"]) if "default" in rule else EXAMPLES.get(str(rule.get("format")), ""),
            choices=_choices(rule),
            problem=problems.get(name, ""),
            input_type=(
                INPUT_TYPES.get(str(rule.get("format")), "text")  # a text with a zone has none of HTML
                if rule.get("type") == "string" and not may_have_places
                else "text"
            ),
            permit=permit,
        )
        for name, rule in _properties(schema).items()
    ]


def kind_of(rule: Json, name: str = "") -> str:
    """Return the kind of field for values of this schema."""
    if _choices(rule):
        return "choice"
    if asks_for_file(rule) or asks_for_files(rule):
        return "file" if asks_for_file(rule) else "files"
    kinds = {"boolean": "flag", "number": "number", "integer": "number", "string": "text"}
    kind = kinds.get(rule["type"], "json") if isinstance(rule.get("type"), str) else "json"
    return "long_text" if kind == "text" and name in LONG_TEXTS else kind


def texts_of(schema: Json, inputs: Json) -> dict[str, str]:
    """Convert inputs to field texts. Inputs without a field are combined under `MORE`."""
    rules = _properties(schema)
    texts = {}
    for name, value in inputs.items():
        if name in rules:
            is_json = not isinstance(value, str) or kind_of(rules[name]) in AS_JSON
            texts[name] = _as_text(value) if is_json else value
    others = {name: value for name, value in inputs.items() if name not in rules}
    return texts | ({MORE: format_json(others)} if others else {})


def takes_more(schema: Json) -> bool:
    """Return whether the schema allows additional inputs."""
    return schema.get("additionalProperties", True) is not False


def read_inputs(schema: Json, texts: Mapping[str, str]) -> tuple[Json, dict[str, str]]:
    """Return the submitted inputs, and field → problem. An empty field means no input."""
    inputs: Json = {}
    problems: dict[str, str] = {}
    for name, rule in _properties(schema).items():
        text = texts.get(name, "")
        if text.strip():
            try:
                inputs[name] = _value(text, rule, name)
            except ValueError as error:
                problems[name] = str(error)
    try:
        inputs |= read_object(texts.get(MORE, ""))
    except ValueError as error:
        problems[MORE] = str(error)
    return inputs, problems


def read_json(text: str) -> Any:
    """Parse a JSON text with the rules of the API. Raises ValueError with the position of the error."""
    try:
        return decode(text.encode(errors="replace"), nesting=settings.APFLOW.limits.nesting)
    except MalformedJson as error:
        raise ValueError(error.message.replace("The body", "This", 1)) from None


def read_object(text: str) -> Json:
    """Parse a JSON object. An empty text is an empty object. Raises ValueError."""
    value = read_json(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError('This must be an object: {"name": value, …}')
    return value


def _value(text: str, rule: Json, name: str) -> Any:
    kind = kind_of(rule, name)
    if kind in ("text", "long_text"):
        return text.replace("\r\n", "\n")
    if kind == "choice":
        return next((each for each in rule["enum"] if _as_text(each) == text), text)
    try:
        return read_json(text)
    except ValueError:
        if kind not in AS_JSON:
            raise ValueError("This must be a number" if kind == "number" else "This must be true or false") from None
        if "string" in _kinds(rule):
            return text  # a text needs no quotation marks if the schema also allows strings
        raise


def _kinds(rule: Json) -> set[str]:
    """Return the types of a schema and of its alternatives."""
    kinds = rule.get("type", [])
    own = {kinds} if isinstance(kinds, str) else set(kinds)
    return own.union(*(_kinds(each) for each in [*rule.get("anyOf", []), *rule.get("oneOf", [])]))


def _properties(schema: Json) -> dict[str, Json]:
    return {name: rule for name, rule in schema.get("properties", {}).items() if isinstance(rule, dict)}


def _choices(rule: Json) -> list[str]:
    return [_as_text(each) for each in rule.get("enum", [])]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else format_json(value)
