"""The method that reads the audit log."""

from a2a.methods.audit_params import ListAudit
from a2a.methods.results import DataResult
from a2a.methods.run_params import moment
from accounts.callers import Caller
from tasks.services.upkeep import audit_entries


def list_audit(caller: Caller, given: ListAudit) -> DataResult:
    """Return a page of the audit log, the newest entry first: what the caller did or, for administrators, all users."""
    found, next_cursor = audit_entries.list_entries(
        caller=caller,
        since=None if given.since is None else moment(given.since),
        until=None if given.until is None else moment(given.until),
        user_id=given.user_id,
        action=given.action,
        limit=given.limit,
        cursor=given.cursor,
    )
    return DataResult(native={"entries": [audit_entries.native_of(each) for each in found], "next_cursor": next_cursor})
