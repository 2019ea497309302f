"""The results of the methods for flows, as types."""

from a2a.methods.response import Response
from a2a.methods.responses import Execution, FlowRef
from a2a.methods.task_schemas import NewTask
from tasks.rules.strict_json import Json
from tasks.status import Status


class Flow(Response, frozen=True, kw_only=True):
    """One version of a flow. `newest_version` is what runs by default. `is_tool`: MCP clients of its owner get it as a tool."""

    name: str
    user_id: str
    version: int
    newest_version: int
    description: str
    is_tool: bool
    inputs_schema: Json | None
    tasks: list[NewTask]
    created_at: str


class SavedFlow(Flow, frozen=True, kw_only=True):
    """A saved version. `is_new` is false if the newest version has the same content: then none was added."""

    is_new: bool
    warnings: list[str]


class FlowExecution(Execution, frozen=True, kw_only=True):
    """The reply to the execution of a flow."""

    flow: FlowRef


class FlowRun(Response, frozen=True, kw_only=True):
    """A run of a flow. `task_id` is the root of its tree."""

    run_id: str
    task_id: str
    version: int
    status: Status
    created_at: str
    started_at: str | None
    finished_at: str | None


class ListedFlow(Response, frozen=True, kw_only=True):
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


class Flows(Response, frozen=True, kw_only=True):
    """A page of flows, by name. `next_cursor` is null on the last page."""

    flows: list[ListedFlow]
    next_cursor: str | None


class FlowVersion(Response, frozen=True, kw_only=True):
    """A version of a flow, without its tasks."""

    version: int
    description: str
    created_at: str


class FlowVersions(Response, frozen=True, kw_only=True):
    """The versions of a flow that are kept, newest first."""

    name: str
    user_id: str
    versions: list[FlowVersion]


class FlowDeleted(Response, frozen=True, kw_only=True):
    """The number of versions that were deleted with the flow, and of its runs, which are kept."""

    success: bool
    name: str
    versions_deleted: int
    runs_kept: int
