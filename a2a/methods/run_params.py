"""The parameters of the methods for runs."""

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any

from msgspec import Meta

from a2a.core.conditions import Problem
from a2a.core.parsing import Params, Text
from a2a.methods import chosen_fields
from a2a.methods.flow_params import RESUMES
from a2a.methods.params import RunStatus, Tag, TakesInputs
from a2a.methods.run_responses import Run
from tasks.rules.tags import RULE, TAG

Moment = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"format": "date-time"})]
"""A time in ISO 8601, with an offset or in UTC, or a day, which stands for its first moment in UTC."""
FieldOfRun = Annotated[str, Meta(extra_json_schema=chosen_fields.one_of(Run))]
FieldsOfRun = Annotated[str, Meta(extra_json_schema=chosen_fields.several_of(Run))]
NO_TIME = "must be a time such as 2026-11-01T08:00:00Z, or a day such as 2026-11-01"


class ListRuns(Params, frozen=True, kw_only=True):
    """runs.list"""

    task_id: Text | None = None
    """Only runs of the tree that contains this task."""
    flow: Text | None = None
    """Only runs of this flow."""
    status: RunStatus | list[RunStatus] | None = None
    tag: Tag | None = None
    """Only runs with this tag."""
    text: Text | None = None
    """Only runs with this text in the name of their tree, at the start of their id or that of the tree, or in an error that failed them."""
    user_id: Text | None = None
    since: Moment | None = None
    """Only runs that were created at this time or later."""
    until: Moment | None = None
    """Only runs that were created before this time."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: str = ""
    fields: FieldsOfRun | list[FieldOfRun] | None = None
    """Only these fields of each run."""

    @property
    def statuses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.status] if isinstance(self.status, str) else self.status or ()))

    def contradictions(self) -> list[Problem]:
        no_tag = [] if self.tag is None or TAG.fullmatch(self.tag) else [("tag", RULE)]
        unknown = chosen_fields.problems(self.fields, Run)
        return [*super().contradictions(), *no_tag, *unknown, *period_problems(self.since, self.until)]


class GetRun(Params, frozen=True, kw_only=True):
    """runs.get"""

    run_id: Text


class GetRunTree(GetRun, frozen=True, kw_only=True):
    """runs.tree"""


class ListCalls(GetRun, frozen=True, kw_only=True):
    """runs.calls"""

    task_id: Text | None = None
    """Only the calls of this task."""
    limit: Annotated[int, Meta(ge=1, le=200)] = 20
    cursor: str = ""


class ExportRun(Params, frozen=True, kw_only=True):
    """runs.export"""

    run_id: Text
    events: bool = False
    """Also the events of the run."""


class CompareRuns(Params, frozen=True, kw_only=True):
    """runs.compare"""

    a: Text
    """The id of a run."""
    b: Text
    """The id of another run."""
    changed_only: bool = False
    """Leave out the tasks in which nothing differs."""


class Fork(TakesInputs, frozen=True, kw_only=True):
    """tasks.fork"""

    ALIASES = MappingProxyType({"id": "task_id", "from": "from_tasks"})
    task_id: Text
    """Any task of the tree."""
    from_tasks: list[Text] | None = None
    """The first tasks to run: by default those with new inputs or, without any, `task_id`."""
    inputs: dict[Text, dict[str, Any]] | None = None
    """The inputs of some tasks, by their ids, instead of what they had."""

    def contradictions(self) -> list[Problem]:
        resumes = [("last_event_id", RESUMES)] if self.last_event_id is not None else []
        return [*super().contradictions(), *resumes]


def moment(text: str) -> datetime:
    """Return the time that the text names. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def period_problems(since: str | None, until: str | None) -> list[Problem]:
    """Return the problems of `since` and `until`, which name the first moment and the one after the last."""
    given = {"since": since, "until": until}
    if problems := [(name, NO_TIME) for name, text in given.items() if not _is_moment(text)]:
        return problems
    is_reversed = since and until and moment(since) > moment(until)
    return [("since", "must not be after 'until'")] if is_reversed else []


def _is_moment(text: str | None) -> bool:
    try:
        return text is None or bool(moment(text))
    except (ValueError, OverflowError):
        return False
