"""JSON Schema 2020-12: what is wrong with a schema or with a value, in one sentence.

Schemas come from users: references to other documents are not fetched, and patterns take linear time.
"""

from functools import lru_cache
from typing import Final

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from tasks.rules.strict_json import Json

NO_RULE: Final[tuple[Json, ...]] = ({}, {"type": "object"})


def fault(schema: Json) -> str | None:
    """Why this is no JSON Schema. None when it is one."""
    try:
        Draft202012Validator(schema, offline=True, pattern_options=RegexOptions())
    except ValidationError as error:
        return _sentence(error)
    return None


def mismatch(schema: Json, inputs: Json) -> str | None:
    """Why the inputs do not fit the schema, without repeating them: they may hold a secret. None when they fit.

    A schema that is none is a mismatch too.
    """
    if schema in NO_RULE:
        return None
    try:
        validator = _validator(orjson.dumps(schema))
    except ValidationError as error:
        return f"the schema itself cannot be used: {_sentence(error)}"
    first = next(validator.iter_errors(inputs), None)
    return _sentence(first) if first else None


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    """Compiling a schema costs a hundred times what using it does, and most tasks share theirs."""
    rules = orjson.loads(schema)
    return Draft202012Validator(rules, offline=True, pattern_options=RegexOptions(), mask="the value")


def _sentence(error: ValidationError) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    return f"{place.lstrip('.')}: {error.message}" if place else error.message
