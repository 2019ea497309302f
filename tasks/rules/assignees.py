"""Assignees: the users and roles that may answer a question."""

from collections.abc import Iterable
from typing import Any, Final

from accounts.callers import ROLE_PREFIX, Role
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
