"""The method that reads the audit log."""

from typing import Annotated

from msgspec import Meta

from a2a.core.parsing import Params, Problem, Text
from a2a.methods.method import VIEWER, Response, Rest, method
from a2a.methods.params import Moment, moment, period_problems
from a2a.methods.results import DataResult
from accounts.audit import ACTIONS, Action, is_action
from accounts.callers import Caller
from tasks.rules.strict_json import Json
from tasks.services.upkeep import audit_entries

ActionName = Annotated[str, Meta(extra_json_schema={"enum": list(ACTIONS)})]
NO_ACTION = f"must be an action or the first part of several, such as 'flow' or one of {', '.join(Action)}"


class ListAudit(Params, frozen=True, kw_only=True):
    """audit.list"""

    since: Moment | None = None
    """Only entries of this time or later."""
    until: Moment | None = None
    """Only entries before this time."""
    user_id: Text | None = None
    """Only what this user did."""
    action: ActionName | None = None
    """Only this action, such as `login.failed`, or all of a kind, such as `user`."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str = ""

    def contradictions(self) -> list[Problem]:
        is_known = self.action is None or is_action(self.action)
        problems = [*super().contradictions(), *period_problems(self.since, self.until)]
        return problems if is_known else [*problems, ("action", NO_ACTION)]


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


@method("audit.list", role=VIEWER, answer=AuditEntries, rest=[Rest("listAudit", "GET audit/")])
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
