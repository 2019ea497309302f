"""The event that a wait takes: `match` maps JSON Pointers to the values that the payload must have there. Pure.

Waits are found by two hashes, so that an event costs the same with one wait as with a hundred
thousand: `shape` is that of the pointers, and `digest` that of the pointers with their values.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from accounts.callers import ROLE_PREFIX, Role
from tasks.rules.conditions import ABSENT, value_at
from tasks.rules.strict_json import Json

MOST: Final = 20
ROLES: Final = (f"{ROLE_PREFIX}{Role.OPERATOR}", f"{ROLE_PREFIX}{Role.ADMIN}")
SCHEMA: Final[Json] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 255},
    "minItems": 1,
    "maxItems": MOST,
    "uniqueItems": True,
}


def fault_of_assignees(assignees: Iterable[Any]) -> str | None:
    """Describe, as the rest of a sentence, which name is no assignee; None if all are. Whether a user exists is not checked."""
    for name in assignees:
        if isinstance(name, str) and name.startswith(ROLE_PREFIX) and name not in ROLES:
            return f"has the role {name[:100]!r}. Roles that may answer: {', '.join(ROLES)}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One of them. `assignees` are those that it adds; none for a reminder."""

    at: datetime
    assignees: Sequence[str] = ()


def alarms_of(
    asked_at: datetime,
    *,
    remind_after_seconds: Sequence[float],
    escalate_after_seconds: float | None,
    to: Sequence[str],
) -> list[Alarm]:
    """Return the alarms in the order of their times."""
    alarms = [Alarm(at=asked_at + timedelta(seconds=seconds)) for seconds in remind_after_seconds]
    if escalate_after_seconds is not None:
        alarms.append(Alarm(at=asked_at + timedelta(seconds=escalate_after_seconds), assignees=to))
    return sorted(alarms, key=lambda alarm: alarm.at)


def as_json(alarms: Sequence[Alarm]) -> list[Json]:
    return [{"at": alarm.at.isoformat(), "assignees": list(alarm.assignees)} for alarm in alarms]


def from_json(alarms: Sequence[Any]) -> list[Alarm]:
    return [Alarm(at=datetime.fromisoformat(each["at"]), assignees=each["assignees"]) for each in alarms]


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
