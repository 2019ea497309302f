"""Types of the replies about the audit log."""

from typing import TypedDict

from .types import Json


class AuditEntry(TypedDict):
    """An action of `user_id` on `target`, from `address`. `user_id` and `target` are empty if unknown.

    `details` depend on the action; they never contain a password, key or secret.
    """

    id: str
    at: str
    action: str
    user_id: str
    address: str
    target: str
    details: Json


class AuditEntries(TypedDict):
    """A page of the audit log, the newest entry first. `next_cursor` is None on the last page."""

    entries: list[AuditEntry]
    next_cursor: str | None
