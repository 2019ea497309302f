"""The parameters of the list of tasks."""

from typing import Annotated, Literal

from msgspec import Meta

from a2a.core.conditions import NotWith, Problem
from a2a.core.mapping import JSON_FIELDS
from a2a.core.parsing import Params, Text
from a2a.methods import chosen_fields
from a2a.methods.params import RunStatus, Tag
from a2a.methods.responses import ListedTask
from a2a.methods.run_params import Moment, moment, period_problems
from tasks.rules.tags import RULE, TAG
from tasks.services.history import Period
from tasks.status import Status

TaskField = Annotated[str, Meta(extra_json_schema=chosen_fields.one_of(ListedTask))]
TaskFields = Annotated[str, Meta(extra_json_schema=chosen_fields.several_of(ListedTask))]
OF_RUNS = frozenset({"run_status", "run_id", "run_number"})
COUNTS = "task_counts"


class ListTasks(Params, frozen=True, kw_only=True):
    """tasks.list"""

    CONDITIONS = (
        NotWith("offset", "cursor", "cannot be combined with cursor, which already contains the position"),
        *(
            NotWith("offset", name, f"cannot be combined with {name}: use cursor")
            for name in ("run_status", "tag", "text")
        ),
    )
    user_id: Text | None = None
    status: Status | list[Status] | None = None
    run_status: RunStatus | list[RunStatus] | None = None
    """Only roots whose latest run has this status, in the order of these runs."""
    tag: Tag | None = None
    """Only roots whose latest run has this tag."""
    text: Text | None = None
    """Only roots with this text in their name, at the start of their id or that of their latest run, or in an error that failed it."""
    name: Text | None = None
    since: Moment | None = None
    """Only tasks that were created at this time or later."""
    until: Moment | None = None
    """Only tasks that were created before this time."""
    root_only: bool = True
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    cursor: str | None = None
    order: Literal["created_at", "-created_at"] = "-created_at"
    summary: bool = False
    """Leave out inputs, schemas, params and results, and count the tasks of each tree."""
    fields: TaskFields | list[TaskField] | None = None
    """Only these fields of each task, instead of what `summary` says."""

    @property
    def chosen(self) -> list[str] | None:
        """The names of the fields; None for those that `summary` says."""
        return chosen_fields.chosen(self.fields)

    @property
    def is_light(self) -> bool:
        """Whether the JSON of the tasks is left out."""
        return self.summary if self.chosen is None else JSON_FIELDS.isdisjoint(self.chosen)

    @property
    def has_counts(self) -> bool:
        """Whether the tasks of each tree are counted."""
        return self.summary if self.chosen is None else COUNTS in self.chosen

    @property
    def has_runs(self) -> bool:
        """Whether roots have their latest run."""
        return self.chosen is None or not OF_RUNS.isdisjoint(self.chosen)

    @property
    def is_by_run(self) -> bool:
        """Whether roots are found by their latest runs."""
        return bool(self.run_status) or self.is_search

    @property
    def is_search(self) -> bool:
        return self.tag is not None or self.text is not None

    def contradictions(self) -> list[Problem]:
        no_tag = [] if self.tag is None or TAG.fullmatch(self.tag) else [("tag", RULE)]
        unknown = chosen_fields.problems(self.fields, ListedTask)
        return [*super().contradictions(), *no_tag, *unknown, *period_problems(self.since, self.until)]

    @property
    def period(self) -> Period:
        """The times in which the tasks were created."""
        since, until = (None if text is None else moment(text) for text in (self.since, self.until))
        return Period(since=since, until=until)

    @property
    def run_statuses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.run_status] if isinstance(self.run_status, str) else self.run_status or ()))

    @property
    def statuses(self) -> tuple[Status, ...]:
        if self.status is None:
            return ()
        return tuple(self.status) if isinstance(self.status, list) else (self.status,)
