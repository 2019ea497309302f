"""Methods for data sets: save rows as a version, add those of runs, read, list and delete."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from a2a.core.mapping import native_time
from a2a.core.parsing import Params, Problem, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, has_one_of, method
from a2a.methods.params import MOST_NAMED, FlowName, Moment, Tags, Version, moment, period_problems
from a2a.methods.responses import RunStatus
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Dataset, DatasetVersion
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.services.evals import datasets, rows_of_runs

SELECTING: Final = ("status", "since", "limit")
OF_NO_FLOW: Final = {"properties": {name: {"type": "null"} for name in SELECTING}}
"""The schema of a request that names runs: only those of a flow are selected."""


class RowSource(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The run from which a row was made. It may have been deleted since."""

    run_id: Annotated[str, Meta(min_length=1, max_length=36)]


class DatasetRow(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A case: the inputs of a run, what is expected of it (any JSON), tags, and the run that it was made from."""

    inputs: dict[str, Any]
    expected: Any = UNSET
    tags: Tags | UnsetType = UNSET
    source: RowSource | UnsetType = UNSET


class SaveDataset(Params, frozen=True, kw_only=True):
    """datasets.save"""

    name: FlowName
    rows: Annotated[list[DatasetRow], Meta(min_length=1)]
    """A row with the inputs of an earlier one takes its place."""
    append: bool = False
    """Whether the rows follow those of the newest version. Default: they replace them."""
    flow: Annotated[str, Meta(max_length=100)] | None = None
    """The flow whose inputs the rows are, and by which they are checked; "" for none. Default: as it is."""


class AddRuns(Params, frozen=True, kw_only=True):
    """datasets.add"""

    name: FlowName
    run_ids: Annotated[list[Text], Meta(min_length=1, max_length=MOST_NAMED)] | None = None
    """Your runs, all of one flow; the id of a tree means its latest run."""
    flow: FlowName | None = None
    """The newest runs of this flow of yours, except those of experiments and demos."""
    status: RunStatus | list[RunStatus] | None = None
    """Only runs of the `flow` with this status. Default: completed."""
    since: Moment | None = None
    """Only runs of the `flow` that were created at this time or later."""
    limit: Annotated[int, Meta(ge=1, le=MOST_NAMED)] | None = None
    """The most runs of the `flow`. Default: 100."""
    expected: Literal["answer", "result", "nothing"] = "answer"
    """Whether a row expects what a person answered last in the run, the result of a run that completed, or nothing. A run without it makes a row without `expected`."""
    tags: Tags | None = None
    """The tags of the new rows."""

    @property
    def statuses(self) -> tuple[str, ...]:
        return tuple([self.status] if isinstance(self.status, str) else self.status or ("completed",))

    def contradictions(self) -> list[Problem]:
        found = period_problems(self.since, None)
        if (self.run_ids is None) == (self.flow is None):
            found.append(("run_ids", "required, or flow, and not both"))
        if self.flow is None:
            found += [(name, "selects runs of a `flow`") for name in SELECTING if getattr(self, name) is not None]
        return [*super().contradictions(), *found]


class OneDataset(Params, frozen=True, kw_only=True):
    """datasets.delete"""

    name: FlowName
    user_id: Text | None = None
    """The owner; only administrators see data sets of others."""


class GetDataset(OneDataset, frozen=True, kw_only=True):
    """datasets.get"""

    version: Version | None = None
    """Default: the newest one."""


class ListDatasets(Params, frozen=True, kw_only=True):
    """datasets.list"""

    user_id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class DatasetInfo(Response, frozen=True, kw_only=True):
    """A version of a data set, without its rows. `flow` is null if they are the inputs of no flow in particular."""

    name: str
    user_id: str
    flow: str | None
    version: int
    newest_version: int
    count: int
    created_at: str


class DatasetRows(DatasetInfo, frozen=True, kw_only=True):
    """A version of a data set. It never changes."""

    rows: list[DatasetRow]


class SavedDataset(DatasetInfo, frozen=True, kw_only=True):
    """A saved version. `is_new` is false if the newest version has the same rows. `replaced` is how many rows had the inputs of another one."""

    is_new: bool
    replaced: int


class AddedRuns(SavedDataset, frozen=True, kw_only=True):
    """A saved version. `added` of so many `runs` made a new row; the others have the inputs of a row that was there, which stays, or of a newer run."""

    runs: int
    added: int


class Datasets(Response, frozen=True, kw_only=True):
    """The newest versions of a page of data sets, by name. `next_cursor` is null on the last page."""

    datasets: list[DatasetInfo]
    next_cursor: str | None


class DatasetDeleted(Response, frozen=True, kw_only=True):
    """The number of versions that were deleted with the data set."""

    success: bool
    name: str
    versions_deleted: int


@method(
    "datasets.save",
    role=OPERATOR,
    answer=SavedDataset,
    rest=[
        Rest(
            "saveDataset",
            "PUT datasets/<name>/",
            answers={201: SavedDataset, 200: SavedDataset},
            answered=lambda native: (201 if native["is_new"] else 200, native),
            errors=(errors.FlowNotFound, errors.LimitReached),
            rules={"required": ["rows"]},
        )
    ],
)
async def save(caller: Caller, given: SaveDataset) -> DataResult:
    """Save rows as the next version of a data set, unless the newest one has the same rows."""
    saved = await pools.write(
        datasets.save_dataset,
        caller=caller,
        name=given.name,
        rows=[to_builtins(row) for row in given.rows],
        appends=given.append,
        flow=given.flow,
    )
    return DataResult(native=_saved(saved))


@method(
    "datasets.add",
    role=OPERATOR,
    answer=AddedRuns,
    rest=[
        Rest(
            "addRunsToDataset",
            "POST datasets/<name>/runs/",
            answers={201: AddedRuns, 200: AddedRuns},
            answered=lambda native: (201 if native["is_new"] else 200, native),
            errors=(errors.FlowNotFound, errors.RunNotFound, errors.LimitReached),
            rules={"oneOf": has_one_of("run_ids", "flow"), "anyOf": [*has_one_of("flow"), OF_NO_FLOW]},
        )
    ],
)
async def add(caller: Caller, given: AddRuns) -> DataResult:
    """Save a version of a data set with a further row for each of these runs, unless it has their inputs already."""
    added = await pools.write(
        rows_of_runs.add_runs,
        caller=caller,
        name=given.name,
        run_ids=given.run_ids or (),
        flow=given.flow,
        statuses=given.statuses,
        since=None if given.since is None else moment(given.since),
        limit=given.limit or 100,
        expected=given.expected,
        tags=given.tags or (),
    )
    counted = {"runs": added.runs, "added": added.runs - added.known}
    return DataResult(native=_saved(added.saved) | counted)


@method(
    "datasets.get",
    role=VIEWER,
    answer=DatasetRows,
    rest=[Rest("getDataset", "GET datasets/<name>/", errors=(errors.DatasetNotFound,))],
)
def get(caller: Caller, given: GetDataset) -> DataResult:
    """Return a version of a data set, by default the newest, with its rows."""
    found = datasets.get_version(caller=caller, name=given.name, version=given.version, user_id=given.user_id)
    return DataResult(native=_native(*found) | {"rows": found[1].rows})


@method("datasets.list", role=VIEWER, answer=Datasets, rest=[Rest("listDatasets", "GET datasets/")])
def list_datasets(caller: Caller, given: ListDatasets) -> DataResult:
    """Return a page of data sets by name, without their rows."""
    listed, cursor = datasets.list_datasets(
        caller=caller, user_id=given.user_id, limit=given.limit, cursor=given.cursor
    )
    return DataResult(native={"datasets": [_native(each.dataset, each) for each in listed], "next_cursor": cursor})


@method(
    "datasets.delete",
    role=OPERATOR,
    answer=DatasetDeleted,
    rest=[Rest("deleteDataset", "DELETE datasets/<name>/", errors=(errors.DatasetNotFound,))],
)
async def delete(caller: Caller, given: OneDataset) -> DataResult:
    """Delete a data set and its versions. Experiments keep the cases that they have run."""
    deleted = await pools.write(datasets.delete_dataset, caller=caller, name=given.name, user_id=given.user_id)
    return DataResult(native={"success": True, "name": given.name, "versions_deleted": deleted})


def _saved(saved: datasets.Saved) -> Json:
    return _native(saved.dataset, saved.version) | {"is_new": saved.is_new, "replaced": saved.replaced}


def _native(dataset: Dataset, version: DatasetVersion) -> Json:
    return {
        "name": dataset.name,
        "user_id": dataset.user_id,
        "flow": dataset.flow or None,
        "version": version.number,
        "newest_version": dataset.version,
        "count": version.count,
        "created_at": native_time(version.created_at),
    }
