"""The caller of a request: one frozen value that every service and query takes."""

from dataclasses import dataclass
from enum import IntEnum

LOCAL_USER = "local"


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

    def may(self, needed: Role) -> bool:
        """Whether the caller has at least this role; a read-only caller counts as a viewer."""
        return needed <= (Role.VIEWER if self.is_read_only else self.role)


#: The caller while authentication is off (contract, section 5).
LOCAL = Caller(user_id=LOCAL_USER, role=Role.ADMIN)
