"""The audit log as users read it: administrators all of it, others what they did themselves."""

from datetime import datetime

from accounts import audit
from accounts.callers import Caller
from accounts.models import AuditEntry
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.trees.queries import NOT_A_CURSOR, after_cursor, cursor_at


def list_entries(
    *,
    caller: Caller,
    since: datetime | None = None,
    until: datetime | None = None,
    user_id: str | None = None,
    action: str | None = None,
    limit: int = 100,
    cursor: str = "",
) -> tuple[list[AuditEntry], str | None]:
    """Return a page of the audit log, the newest entry first, and the cursor of the next page (None at the end).

    Raises InvalidParams for an invalid cursor.
    """
    found = audit.entries(since=since, until=until, actor=user_id, action=action)
    if not caller.sees_all:
        found = found.filter(actor=caller.user_id)
    if cursor:
        try:
            found = found.filter(after_cursor(cursor, descending=True, column="at"))
        except ValueError:  # its id is no number
            raise InvalidParams([NOT_A_CURSOR]) from None
    rows = list(found[: limit + 1])
    page = rows[:limit]
    return page, cursor_at(page[-1].at, str(page[-1].id)) if len(rows) > limit else None


def native_of(entry: AuditEntry) -> Json:
    """Return an entry as every interface shows it."""
    return {
        "id": str(entry.id),
        "at": entry.at.isoformat(),
        "action": entry.action,
        "user_id": entry.actor,
        "address": entry.address,
        "target": entry.target,
        "details": entry.details,
    }
