"""Who asks: one frozen value that every service and every query takes."""

from dataclasses import dataclass
from enum import IntEnum

LOCAL_USER = "local"


class Role(IntEnum):
    """What somebody may do. Each role may do all that the lower ones may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The user behind a request. `is_read_only`: came with a key that sees what the role sees, and changes nothing."""

    user_id: str
    role: Role = Role.OPERATOR
    is_read_only: bool = False

    @property
    def sees_all(self) -> bool:
        """True for admins, and for everybody while authentication is off."""
        return self.role is Role.ADMIN

    def may(self, needed: Role) -> bool:
        """Whether the caller may do what needs this role."""
        return needed <= (Role.VIEWER if self.is_read_only else self.role)


#: Who asks while authentication is off (contract, section 5).
LOCAL = Caller(user_id=LOCAL_USER, role=Role.ADMIN)
