"""The caller of a request: one frozen value that every service and query takes."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

LOCAL_USER = "local"
ROLE_PREFIX = "role:"
USER_ID = "user_id"
MAX_USER_ID_CHARACTERS = 255  # the width of the column for the owner of a task


class Role(IntEnum):
    """The permissions of a user. Each role includes those below it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The user or program that makes a request.

    `is_read_only`: the request came with a read-only API key, so it may read what the role may
    read, and change nothing.
    """

    user_id: str
    role: Role = Role.OPERATOR
    is_read_only: bool = False

    @property
    def sees_all(self) -> bool:
        """Whether the caller may read the tasks of all users: admins, and LOCAL."""
        return self.role is Role.ADMIN

    @property
    def rights(self) -> "Caller":
        """This caller with the placeholder USER_ID for the user, for queries that are compiled once for all users."""
        return _with_rights(self.role, self.is_read_only)

    @property
    def names(self) -> frozenset[str]:
        """The names by which a question can be assigned to the caller: the user, and the roles that may answer.

        A token may name any user, but none that looks like a role.
        """
        own = frozenset({self.user_id} if not self.user_id.startswith(ROLE_PREFIX) else ())
        return own | {f"{ROLE_PREFIX}{role}" for role in (Role.OPERATOR, Role.ADMIN) if role <= self.role}

    def may(self, needed: Role) -> bool:
        """Return whether the caller has at least this role; a read-only caller counts as a viewer."""
        return needed <= (Role.VIEWER if self.is_read_only else self.role)


@cache
def _with_rights(role: Role, is_read_only: bool) -> Caller:
    return Caller(user_id=USER_ID, role=role, is_read_only=is_read_only)


#: The caller while authentication is off.
LOCAL = Caller(user_id=LOCAL_USER, role=Role.ADMIN)
