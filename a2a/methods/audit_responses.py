"""The result of the method that reads the audit log, as types."""

from a2a.methods.response import Response
from tasks.rules.strict_json import Json


class AuditEntry(Response, frozen=True, kw_only=True):
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


class AuditEntries(Response, frozen=True, kw_only=True):
    """A page of the audit log, the newest entry first. `next_cursor` is null on the last page."""

    entries: list[AuditEntry]
    next_cursor: str | None
