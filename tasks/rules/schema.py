"""JSON Schema 2020-12: describe in one sentence why a schema or a value is invalid, and limit its work.

Schemas come from users: references to other documents are not fetched, patterns run in linear
time, and the work that a schema can cause is counted before it is compiled or used. A few kilobytes can
describe an endless amount: references to references double with each level, and so do the repetitions in a
pattern. The count follows every path through the references, but walks each part of the schema once.
"""

import re
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from tasks.rules.strict_json import Json

NO_RULE: Final[tuple[Json, ...]] = ({}, {"type": "object"})
PATTERNS: Final = RegexOptions(size_limit=2**20, dfa_size_limit=2**20)
FURTHER: Final = "x-further"
"""A mark in the schema of an input: forms show it only on request."""
MAX_CHARACTERS: Final = 1_000
"""The characters of a description: it may repeat parts of the schema."""
MAX_BYTES: Final = 65_536
MAX_LEVELS: Final = 32
MAX_REFERENCES: Final = 10_000
MAX_PATTERN_SIZE: Final = 10_000
LIGHT_STEPS: Final = 4_000_000
"""Steps of about 10 ns that may be taken on the event loop."""
STEPS_PER_RULE: Final = 4
BYTES_PER_VALUE: Final = 100
"""The length of text that costs a rule as much as one more value: to count, hash or compare it."""
ONE_SCHEMA: Final = (
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
MAPS: Final = ("patternProperties", "dependentSchemas", "dependencies")
LISTED_VALUES: Final = ("enum", "const", "required", "dependentRequired", "type")
NOT_LOCAL: Final = ("$dynamicRef", "$recursiveRef")
REPETITION: Final = re.compile(r"\{(\d+)(?:,(\d*))?\}")
CPU_SECONDS: Final = 2
MEMORY_BYTES: Final = 2**30


def fault(schema: Json) -> str | None:
    """Describe why this is not a valid JSON Schema; None if it is valid."""
    try:
        Draft202012Validator(schema, offline=True, pattern_options=PATTERNS)
    except ValidationError as error:
        return _sentence(error)
    return None


def mismatch(schema: Json, inputs: Json) -> str | None:
    """Describe why the inputs do not match the schema; None if they match.

    The description does not repeat values, because they may be secret. An invalid schema is also
    reported as a mismatch.
    """
    if schema in NO_RULE:
        return None
    try:
        validator = _validator(orjson.dumps(schema))
    except ValidationError as error:
        return f"the schema itself cannot be used: {_sentence(error)}"
    try:
        validator.validate(inputs)  # stops at the first error; `iter_errors` collects all of them before it yields one
    except ValidationError as error:
        return _sentence(error)
    return None


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    """Compile a schema and cache it.

    Compiling costs a hundred times as much as validating, and most tasks share a schema.
    """
    rules = orjson.loads(schema)
    return Draft202012Validator(rules, offline=True, pattern_options=PATTERNS, mask="the value")


def _sentence(error: ValidationError) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    sentence = f"{place.lstrip('.')}: {error.message}" if place else error.message
    return sentence if len(sentence) <= MAX_CHARACTERS else f"{sentence[:MAX_CHARACTERS]}…"


class TooCostly(Exception):
    """The schema could cause more work than a task may. The message completes "the schema …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The greatest cost of a schema, or of a part of it."""

    levels: int = 1
    """Schemas inside each other, through references too."""
    references: int = 0
    """The number of times that a reference is followed, on all paths together."""
    weight: int = 1
    """The greatest number of rules that apply to one value of the inputs."""
    pattern_size: int = 0
    """The size of all patterns with their repetitions written out."""
    is_open_ended: bool = False
    """Whether the number of rules for one value depends on the inputs, as in a recursive schema."""


def check_cost(schema: Json) -> Cost:
    """Return what the schema can cause. Raises TooCostly above the limits."""
    text = orjson.dumps(schema)
    if len(text) > MAX_BYTES:
        raise TooCostly(f"has {len(text):,} bytes; at most {MAX_BYTES:,} are allowed")
    return _cost(text)


def is_light(schema: Json, inputs: Json) -> bool:
    """Return whether validating these inputs is quick enough for the event loop."""
    try:
        cost = check_cost(schema)
    except TooCostly:  # stored before there were limits
        return False
    text = orjson.dumps(inputs)
    values = 1 + sum(text.count(mark) for mark in (b",", b"[", b"{"))
    rules = cost.weight * (values + len(text) // BYTES_PER_VALUE)
    return not cost.is_open_ended and STEPS_PER_RULE * rules + cost.pattern_size * len(text) <= LIGHT_STEPS


def pattern_size(schemas: Iterable[Json]) -> int:
    """Return the size of the patterns in different schemas together, as far as they are allowed."""
    size = 0
    for text in {orjson.dumps(schema) for schema in schemas}:
        with suppress(TooCostly):
            size += _cost(text).pattern_size if len(text) <= MAX_BYTES else 0
    return size


@lru_cache(maxsize=256)
def _cost(text: bytes) -> Cost:
    """Count, and cache the result: most tasks share a schema. Raises TooCostly."""
    cost = _Count(orjson.loads(text)).of_schema()
    if cost.references > MAX_REFERENCES:
        raise TooCostly(
            f"follows {cost.references:,} references, counted on every path; at most {MAX_REFERENCES:,} are allowed"
        )
    if cost.pattern_size > MAX_PATTERN_SIZE:
        raise TooCostly(
            f"has patterns of {cost.pattern_size:,} characters with their repetitions written out; "
            f"at most {MAX_PATTERN_SIZE:,} are allowed. Limit lengths with maxLength"
        )
    return cost


class _Count:
    """The count for one document. Each part is counted once, however many paths lead to it."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._anchors = dict(_anchors(document))
        self._known: dict[int, Cost] = {}
        self._open: set[int] = set()  # the parts that are being counted: a reference to one is recursive
        self._entered: set[int] = set()  # the parts that apply to the same value as the one at hand
        self._ends: set[int] = set()  # the parts that are known not to refer to themselves for the same value

    def of_schema(self) -> Cost:
        return self._of(self._document, 1)

    def _of(self, part: Any, level: int) -> Cost:
        if not isinstance(part, dict):
            return Cost()
        if id(part) in self._open:
            return Cost(is_open_ended=True)
        if (cost := self._known.get(id(part))) is None:
            _check_levels(level)
            self._open.add(id(part))
            cost = self._known[id(part)] = self._of_new(part, level)
            self._open.discard(id(part))
        _check_levels(level + cost.levels - 1)
        return cost

    def _of_new(self, part: Json, level: int) -> Cost:
        if unknown := next((keyword for keyword in NOT_LOCAL if keyword in part), None):
            raise TooCostly(f"uses {unknown}, which is not supported. Use $ref")
        below = [self._of(schema, level + 1) for schema in _subschemas(part)]
        alternatives = [self._of(schema, level + 1) for schema in _values(part.get("properties"))]
        followed = [self._of(self._target(part["$ref"]), level + 1)] if "$ref" in part else []
        self._refuse_endless(part)
        costs = [*below, *alternatives, *followed]
        listed = sum(_count(part[keyword]) for keyword in LISTED_VALUES if keyword in part)
        return Cost(
            levels=1 + max((cost.levels for cost in costs), default=0),
            references=len(followed) + sum(cost.references for cost in costs),
            # Only one of the properties applies to a value; any number of the other schemas may.
            weight=1
            + listed
            + sum(cost.weight for cost in (*below, *followed))
            + max((cost.weight for cost in alternatives), default=0),
            pattern_size=sum(map(_pattern_size, _patterns(part))) + sum(cost.pattern_size for cost in costs),
            is_open_ended=any(keyword.startswith("unevaluated") for keyword in part)
            or any(cost.is_open_ended for cost in costs),
        )

    def _refuse_endless(self, part: Any) -> None:
        """Raise TooCostly if the part applies itself to the same value: the validation would never end."""
        if not isinstance(part, dict) or id(part) in self._ends:
            return
        if id(part) in self._entered:
            raise TooCostly("refers to itself: a $ref leads back to where it is without a step into the value")
        self._entered.add(id(part))
        same = [self._target(part["$ref"])] if "$ref" in part else []
        lists = [part.get(keyword) for keyword in ("allOf", "anyOf", "oneOf")]
        same += [schema for schemas in lists if isinstance(schemas, list) for schema in schemas]
        same += [part.get(keyword) for keyword in ("not", "if", "then", "else")]
        same += [*_values(part.get("dependentSchemas")), *_values(part.get("dependencies"))]
        for schema in same:
            self._refuse_endless(schema)
        self._entered.discard(id(part))
        self._ends.add(id(part))

    def _target(self, reference: Any) -> Any:
        """Return the part that a reference names. Raises TooCostly if it is not in this document."""
        if isinstance(reference, str) and reference.startswith("#"):
            with suppress(LookupError, ValueError):
                pointer = unquote(reference[1:])
                if pointer and not pointer.startswith("/"):
                    return self._anchors[pointer]
                found: Any = self._document
                for step in pointer.split("/")[1:]:
                    name = step.replace("~1", "/").replace("~0", "~")
                    found = found[int(name)] if isinstance(found, list) else dict(found)[name]
                return found
        raise TooCostly(f"refers to {str(reference)[:100]!r}. Only parts of the schema itself (#…) can be referred to")


def _check_levels(levels: int) -> None:
    if levels > MAX_LEVELS:
        raise TooCostly(f"has more than {MAX_LEVELS} levels of schemas inside each other, references included")


def _anchors(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield the parts that have a name. Raises TooCostly for a document within this document."""
    left: list[Any] = [document]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part.values()
            if isinstance(part.get("$anchor"), str):
                yield part["$anchor"], part
            # References inside of a part with an id of its own have another meaning.
            if isinstance(part.get("$id"), str) and part is not document:
                raise TooCostly("contains another schema with its own $id, which is not supported. Use $defs and $ref")
        elif isinstance(part, list):
            left += part


def _subschemas(part: Json) -> Iterator[Any]:
    """Yield the schemas in a schema that may all apply to the same value."""
    for keyword in LISTS:
        if isinstance(schemas := part.get(keyword), list):
            yield from schemas
    for keyword in MAPS:
        yield from _values(part.get(keyword))
    yield from (part[keyword] for keyword in ONE_SCHEMA if isinstance(part.get(keyword), dict))


def _values(schemas: Any) -> Iterable[Any]:
    return schemas.values() if isinstance(schemas, Mapping) else ()


def _count(value: Any) -> int:
    """Count the values in a JSON value."""
    number, left = 0, [value]
    while left:
        item = left.pop()
        number += 1
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.values()
    return number


def _patterns(part: Json) -> Iterator[str]:
    if isinstance(pattern := part.get("pattern"), str):
        yield pattern
    if isinstance(by_pattern := part.get("patternProperties"), dict):
        yield from by_pattern


def _pattern_size(pattern: str) -> int:
    """Estimate the number of a pattern's states, from above.

    All repetitions are multiplied, as if each was inside the one before. Classes of Unicode have
    many states.
    """
    size = len(pattern)
    for low, high in REPETITION.findall(pattern):
        size = min(size * max(int(low[:6]), int(high[:6] or 0), 1), 10**9)
    if not pattern.isascii() or re.search(r"\\[pPuU]|\(\?", pattern):
        return size * 16
    return size * 4 if re.search(r"\.|\[\^|\\[WDS]", pattern) else size


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    schema, inputs = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(mismatch(schema, inputs)))


if __name__ == "__main__":
    main()
