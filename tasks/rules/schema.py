"""JSON Schema 2020-12: describe in one sentence why a schema or a value is invalid.

Schemas come from users: references to other documents are not fetched, patterns run in linear
time, and `tasks.rules.schema_cost` limits the work.
"""

from functools import lru_cache
from typing import Final

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from tasks.rules.strict_json import Json

NO_RULE: Final[tuple[Json, ...]] = ({}, {"type": "object"})
PATTERNS: Final = RegexOptions(size_limit=2**20, dfa_size_limit=2**20)
FURTHER: Final = "x-further"
"""A mark in the schema of an input: forms show it only on request."""
MAX_CHARACTERS: Final = 1_000
"""The characters of a description: it may repeat parts of the schema."""


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
