"""The parameters of the method that reads the audit log."""

from typing import Annotated

from msgspec import Meta

from a2a.core.conditions import Problem
from a2a.core.parsing import Params, Text
from a2a.methods.run_params import Moment, period_problems
from accounts.audit import ACTIONS, Action, is_action

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
