"""The event that a wait takes: `match` maps JSON Pointers to the values that the payload must have there. Pure.

Waits are found by two hashes, so that an event costs the same with one wait as with a hundred
thousand: `shape` is that of the pointers, and `digest` that of the pointers with their values.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from tasks.rules.conditions import ABSENT, value_at
from tasks.rules.strict_json import Json


def shape_of(match: Json) -> str:
    """Return the hash of the pointers."""
    return _hash(sorted(match))


def digest_of(match: Json) -> str:
    """Return the hash of the pointers with their values."""
    return _hash([[pointer, _plain(match[pointer])] for pointer in sorted(match)])


def digest_at(pointers: Iterable[str], payload: Any) -> str | None:
    """Return the digest of the waits with these pointers that take the payload; None if it lacks one of the values."""
    found = {pointer: value_at(pointer, payload) for pointer in pointers}
    return None if any(value is ABSENT for value in found.values()) else digest_of(found)


def fits(match: Json, payload: Any) -> bool:
    """Return whether a wait with this `match` takes the payload."""
    return digest_at(match, payload) == digest_of(match)


def _plain(value: Any) -> Any:
    """Give equal values of JSON the same form: 1.0 is 1, and the order of names does not matter."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
