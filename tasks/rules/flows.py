"""The parts of a flow: its name, the schema of its inputs, and the inputs of one run. Pure."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import orjson

from tasks.rules.exceptions import MOST_LISTED
from tasks.rules.files import asks_for_file, no_files
from tasks.rules.schema import TooCostly, check_cost, fault, is_light, mismatch
from tasks.rules.strict_json import Json

NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
NAME_RULE: Final = "must have 1 to 100 letters, digits, '_', '-' and '.', the first a letter or digit"
OPEN_KEYWORDS: Final = frozenset(
    {
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "dependentSchemas",
        "else",
        "if",
        "oneOf",
        "patternProperties",
        "propertyNames",
        "then",
        "unevaluatedProperties",
    }
)
"""The keywords with which JSON Schema alone decides about further inputs."""

Problem = tuple[str, str]


def digest_of(tasks: Any, inputs_schema: Json | None, description: str) -> str:
    """Return a SHA-256 of what a version has, independent of the order of the fields of its objects."""
    content = orjson.dumps([tasks, inputs_schema, description], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()


def fault_of_schema(schema: Json) -> str | None:
    """Describe, as the rest of a sentence, why this is no schema for the inputs of a flow; None if it is one."""
    try:
        check_cost(schema)
    except TooCostly as error:
        return str(error)
    if problem := fault(schema):
        return f"is not a valid JSON Schema: {problem}"
    if schema.get("type", "object") != "object":
        return "must describe an object: its properties are the inputs"
    for name, rule in rules_of(schema).items():
        if asks_for_file(rule) and "object" not in rule.get("type", "object"):
            return (
                f'has the format "file" at properties.{name} with another type: a file is an object. Leave the type out'
            )
        # A rule with a reference is only understood within its document.
        is_whole = b'"$ref"' not in orjson.dumps(rule)
        if "default" in rule and is_whole and (problem := mismatch(rule, rule["default"])):
            return f"has a default at properties.{name} that does not fit: {problem}"
    return None


def rules_of(schema: Json) -> dict[str, Json]:
    """Map the name of each described input to its schema; `true` and `false` as schemas are left out."""
    return {name: rule for name, rule in schema.get("properties", {}).items() if isinstance(rule, dict)}


def closed_names(schema: Json | None) -> Collection[str] | None:
    """Return the names of all inputs that there may be; None if there may be others.

    A schema that says nothing about further inputs allows none: a misspelt name would go unnoticed.
    """
    if schema is None or "properties" not in schema or schema.keys() & OPEN_KEYWORDS:
        return None if schema is None or schema.get("additionalProperties") is not False else [*rules_of(schema)]
    return [*schema["properties"]]


def unknown_input(name: str, known: Collection[str], *, of: str = "flow") -> str:
    """Say that there is no input of this name, and which ones there are."""
    if not known:
        return f"'{name[:100]}' is no input of this {of}, which has none"
    close = get_close_matches(name[:100], known, n=1)
    shown = sorted(known)
    names = ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")
    hint = f"did you mean '{close[0]}'?" if close else f"its inputs: {names}"
    return f"'{name[:100]}' is no input of this {of}; {hint}"


def filled_inputs(schema: Json | None, given: Json) -> tuple[Json, list[Problem]]:
    """Return the inputs of a run with the defaults of what was left out, and (field, reason) of each problem."""
    if schema is None:
        return given, []
    filled = with_defaults(schema, given)
    if (known := closed_names(schema)) is not None:
        unknown = [name for name in given if name not in known]
        if unknown:
            return filled, [(f"inputs.{name[:100]}", unknown_input(name, known)) for name in unknown[:MOST_LISTED]]
    missing = [name for name in schema.get("required", []) if name not in filled]
    if missing:
        return filled, [(f"inputs.{name[:100]}", "is required") for name in missing[:100]]
    if wrong := no_files(schema, filled, "inputs"):
        return filled, wrong[:MOST_LISTED]
    if not is_light(schema, filled):
        return filled, [("inputs", "are too long for the schema of this flow. Send less, or simplify the schema")]
    problem = mismatch(schema, filled)
    return filled, [("inputs", f"do not fit the schema of this flow: {problem}")] if problem else []


def with_defaults(schema: Json, given: Json) -> Json:
    """Return the object with the defaults of its properties, and of those of the objects in it."""
    filled = dict(given)
    for name, rule in rules_of(schema).items():
        if name not in filled and "default" in rule:
            filled[name] = rule["default"]
        elif isinstance(filled.get(name), dict):
            filled[name] = with_defaults(rule, filled[name])
    return filled


def without_default(schema: Json) -> set[str]:
    """Return the described inputs that a run may have no value for: not required, and without a default."""
    required = schema.get("required", [])
    return {name for name, rule in rules_of(schema).items() if "default" not in rule and name not in required}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`what` was added, removed or changed: a task or an input by its name, or the description. `fields` are what changed in it."""

    kind: str
    verb: str
    what: str
    fields: Sequence[str] = ()

    def __str__(self) -> str:
        inside = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.kind} {self.what} {self.verb}{inside}".replace("  ", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of a version."""

    tasks: Sequence[Json]
    inputs_schema: Json | None
    description: str


def changes(old: Content, new: Content) -> list[Change]:
    """Return what was changed from the old version to the new one: tasks, then inputs, then the rest."""
    found = [*_of_named("task", _by_id(old.tasks), _by_id(new.tasks))]
    before, after = (each.inputs_schema or {} for each in (old, new))
    found += _of_named("input", before.get("properties", {}), after.get("properties", {}))
    if rest := _changed(_without_properties(before), _without_properties(after)):
        found.append(Change(kind="schema", verb="changed", what="", fields=rest))
    if old.description != new.description:
        found.append(Change(kind="description", verb="changed", what=""))
    if not found and list(_by_id(old.tasks)) != list(_by_id(new.tasks)):
        found.append(Change(kind="order", verb="changed", what="of the tasks"))
    return found


def _of_named(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    yield from (Change(kind=kind, verb="added", what=name) for name in new if name not in old)
    yield from (Change(kind=kind, verb="removed", what=name) for name in old if name not in new)
    for name, value in new.items():
        if name in old and old[name] != value:
            yield Change(kind=kind, verb="changed", what=name, fields=_changed(old[name], value))


def _changed(old: Any, new: Any) -> list[str]:
    """Return the names of the fields of two objects that differ; none for other values."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return []
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _by_id(tasks: Sequence[Json]) -> dict[str, Json]:
    return {str(task["id"]): task for task in tasks}


def _without_properties(schema: Json) -> Json:
    return {name: value for name, value in schema.items() if name != "properties"}
