"""The method that reads the audit log as a value."""

from .audit_types import AuditEntries
from .calls import Call, given


def audit(
    *,
    since: str | None = None,
    until: str | None = None,
    user_id: str | None = None,
    action: str | None = None,
    limit: int = 100,
    cursor: str = "",
) -> Call[AuditEntries]:
    """Return a page of the audit log, the newest entry first: what the user did or, for administrators, what all did.

    `action` is one, such as `login.failed`, or the first part of several, such as `user`.
    """
    wanted = given(since=since, until=until, user_id=user_id, action=action)
    return Call("audit.list", wanted | {"limit": limit, "cursor": cursor})
