"""The method that reads the audit log."""

from functools import partial

from a2a.methods.audit_params import ListAudit
from a2a.methods.results import DataResult
from a2a.methods.run_params import moment
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.services.upkeep import audit_entries


async def list_audit(caller: Caller, given: ListAudit) -> DataResult:
    """Return a page of the audit log, the newest entry first: what the caller did or, for administrators, all users."""
    read = partial(
        audit_entries.list_entries,
        caller=caller,
        since=None if given.since is None else moment(given.since),
        until=None if given.until is None else moment(given.until),
        user_id=given.user_id,
        action=given.action,
    )
    found, next_cursor = await pools.read(read, limit=given.limit, cursor=given.cursor)
    return DataResult(native={"entries": [audit_entries.native_of(each) for each in found], "next_cursor": next_cursor})
