"""The results of the methods for flows, as in `types`."""

from typing import TypedDict

from .types import Execution, FlowRef, Json


class Flow(TypedDict):
    """One version of a flow. `newest_version` is what runs by default."""

    name: str
    user_id: str
    version: int
    newest_version: int
    description: str
    is_tool: bool
    inputs_schema: Json | None
    tasks: list[Json]
    created_at: str


class SavedFlow(Flow):
    """A saved version. `is_new` is False if the newest version has the same content: then none was added."""

    is_new: bool
    warnings: list[str]


class FlowExecution(Execution):
    """The reply to the execution of a flow."""

    flow: FlowRef


class FlowRun(TypedDict):
    """A run of a flow. `task_id` is the root of its tree."""

    run_id: str
    task_id: str
    version: int
    status: str
    created_at: str
    started_at: str | None
    finished_at: str | None


class ListedFlow(TypedDict):
    """A flow without its tasks: its newest version, and its newest run if it has any."""

    name: str
    user_id: str
    version: int
    description: str
    is_tool: bool
    inputs_schema: Json | None
    created_at: str
    updated_at: str
    last_run: FlowRun | None


class Flows(TypedDict):
    """A page of flows, by name. `next_cursor` is None on the last page."""

    flows: list[ListedFlow]
    next_cursor: str | None


class FlowVersion(TypedDict):
    """A version of a flow, without its tasks."""

    version: int
    description: str
    created_at: str


class FlowVersions(TypedDict):
    """The versions of a flow that are kept, newest first."""

    name: str
    user_id: str
    versions: list[FlowVersion]


class FlowDeleted(TypedDict):
    """The number of versions that were deleted with the flow, and how many of its runs are kept."""

    success: bool
    name: str
    versions_deleted: int
    runs_kept: int
