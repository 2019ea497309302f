"""The parts of a flow: its name, the schema of its inputs, the inputs of one run, and the labels of its versions. Pure."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NotRequired, TypedDict

import orjson

from tasks.rules.exceptions import MOST_LISTED, InvalidParams
from tasks.rules.files import asks_for_file, given_whole, is_moved, no_files
from tasks.rules.schema import TooCostly, check_cost, fault, is_light, mismatch
from tasks.rules.strict_json import Json

NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
NAME_RULE: Final = "must have 1 to 100 letters, digits, '_', '-' and '.', the first a letter or digit"
LABEL: Final = re.compile("[A-Za-z][A-Za-z0-9_.-]{0,31}")
LABEL_RULE: Final = "must have 1 to 32 letters, digits, '_', '-' and '.', the first a letter"
REFERENCE: Final = re.compile(f"{NAME.pattern}(@{LABEL.pattern})?")
"""A flow in a request: NAME, or NAME@LABEL for the version that has the label."""
LONGEST_REFERENCE: Final = 100
"""The number of characters of NAME@LABEL: columns have these for a name."""
MOST_LABELS: Final = 20
"""The number of labels of a flow."""
MOST_MOVES: Final = 20
"""The number of moves of a label that are kept, and can be undone."""
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
    whole = given_whole(
        filled
    )  # the others were checked before they were stored as files, or are files that a client names
    problem = mismatch(schema if len(whole) == len(filled) else _without(filled.keys() - whole.keys(), schema), whole)
    return filled, [("inputs", f"do not fit the schema of this flow: {problem}")] if problem else []


def _without(names: Collection[str], schema: Json) -> Json:
    """Return the schema without what it says of these inputs."""
    rules = {name: rule for name, rule in rules_of(schema).items() if name not in names}
    return schema | {"properties": rules, "required": [*{*schema.get("required", [])}.difference(names)]}


def with_defaults(schema: Json, given: Json) -> Json:
    """Return the object with the defaults of its properties, and of those of the objects in it."""
    filled = dict(given)
    for name, rule in rules_of(schema).items():
        if name not in filled and "default" in rule:
            filled[name] = rule["default"]
        elif isinstance(filled.get(name), dict) and not is_moved(filled[name]):
            filled[name] = with_defaults(rule, filled[name])
    return filled


def with_changes(tasks: Sequence[Json], changes: Mapping[str, Json]) -> list[Json]:
    """Return the tasks of a definition with `{TASK: {"inputs": {…}, "params": {…}}}` in the place of what they have.

    Raises InvalidParams for a task that is none of them.
    """
    ids = [task["id"] for task in tasks]
    if unknown := [task_id for task_id in changes if task_id not in ids]:
        raise InvalidParams([(f"changes.{unknown[0][:100]}", unknown_task(unknown[0], ids))])
    return [
        task | {part: (task.get(part) or {}) | new for part, new in changes.get(task["id"], {}).items()}
        for task in tasks
    ]


def unknown_task(task_id: str, known: Collection[str]) -> str:
    """Say that a flow has no such task."""
    close = get_close_matches(task_id[:100], known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(list(known)[:MOST_LISTED])}"
    return f"'{task_id[:100]}' is no task of this flow; {hint}"


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


# --- labels of versions ---


class Move(TypedDict):
    """One move of a label: the version that it got, when, by which user, and why."""

    version: int
    at: str
    by: str
    reason: str


class Label(TypedDict):
    """A label: its moves, newest first, the percentages of its callers that other labels get, and its policy."""

    moves: Sequence[Move]
    shares: Mapping[str, float]
    policy: NotRequired[Json | None]


Labels = Mapping[str, Label]


def version_of(label: Label) -> int:
    return label["moves"][0]["version"]


def place_of(flow: str, label: str, key: str) -> float:
    """Return where a key is among all keys, from 0 to below 100: always the same for the same label."""
    digest = hashlib.sha256(f"{flow}@{label}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


def chosen(flow: str, labels: Labels, name: str, *, key: str | None) -> str:
    """Return the label whose version a caller of the label `name` gets: another one, if the key is in its share.

    Without a key, `name` itself. A label that gets a larger share keeps the keys that it had, if it is the first by name.
    """
    if key is None or not (shares := labels[name]["shares"]):
        return name
    place = place_of(flow, name, key)
    for taker, percent in sorted(shares.items()):
        if place < percent:
            return taker
        place -= percent
    return name


def problems_of_shares(labels: Labels, name: str, shares: Mapping[str, float]) -> Iterator[Problem]:
    """Yield what is wrong with the shares of a label."""
    others = sorted(labels.keys() - {name})
    known = ", ".join(others) if others else "there are none"
    for taker in shares:
        if taker == name:
            yield f"shares.{taker[:100]}", "is the label itself: give the others' shares, and it keeps the rest"
        elif taker not in labels:
            yield f"shares.{taker[:100]}", f"is no label of this flow; its other labels: {known}"
    for taker, percent in shares.items():
        if not 0 < percent <= 100:
            yield f"shares.{taker[:100]}", "must be above 0 and at most 100 percent"
    if (total := sum(shares.values())) > 100:
        yield "shares", f"have {total:g} % together, and at most 100 % are possible"
