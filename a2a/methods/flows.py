"""Methods for flows: save a definition, list and read flows, and run one with inputs."""

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from a2a.core.mapping import by_label, native_flow_of
from a2a.core.parsing import NotWith, Params, Problem, Text
from a2a.methods.execute import STARTS_ANOTHER, Starts, executed, replied, start
from a2a.methods.method import OPERATOR, TREE_ERRORS, VIEWER, Response, Rest, has_one_of, method
from a2a.methods.params import FlowName, FlowReference, NewTasks, Version
from a2a.methods.responses import Execution, FlowRef
from a2a.methods.results import DataResult, TaskResult
from a2a.methods.task_schemas import NewTask
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.providers import SentKey
from tasks import models
from tasks.models import Run
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import flow_lists
from tasks.services.flows.flow_lists import Listed
from tasks.services.trees.idempotency import Token
from tasks.status import Status


class SaveFlow(Params, frozen=True, kw_only=True):
    """flows.save: `tasks`, or the tree of a stored task."""

    CONDITIONS = (NotWith("task_id", "tasks", "cannot be combined with tasks: send one of them"),)
    name: FlowName
    tasks: NewTasks | UnsetType = UNSET
    task_id: Text | None = None
    inputs_schema: dict[str, Any] | None = None
    """A JSON Schema of the inputs of a run; its defaults are filled in."""
    description: Annotated[str, Meta(max_length=10_000)] = ""
    is_tool: bool | None = None
    """Whether MCP clients of the owner get it as a tool; by default as it was, and of a new flow false."""

    def contradictions(self) -> list[Problem]:
        is_missing = self.tasks is UNSET and self.task_id is None
        missing = [("tasks", "required, or task_id for the tree of a stored task")]
        return [*(missing if is_missing else []), *super().contradictions()]


class GetFlow(Params, frozen=True, kw_only=True):
    """flows.get"""

    name: FlowReference
    version: Version | None = None
    """Default: that of the label in `NAME@LABEL`, or the newest one."""
    user_id: Text | None = None
    """The owner; only administrators see flows of others."""


class RunFlow(Starts, frozen=True, kw_only=True):
    """flows.run"""

    ALIASES = MappingProxyType({"run_inputs": "inputs"})
    name: FlowReference
    version: Version | None = None
    """Default: that of the label in `NAME@LABEL`, or the newest one."""
    inputs: dict[str, Any] | None = None
    """Values for `{{run.inputs.topic}}` in the flow, for this run."""
    share_key: Text | None = None
    """The user, session or other thing whose runs all get the same version while a label shares its callers with another. Default: the caller."""
    user_id: Text | None = None

    def contradictions(self) -> list[Problem]:
        resumes = [("last_event_id", STARTS_ANOTHER)] if self.last_event_id is not None else []
        return [*super().contradictions(), *resumes]


class ListFlows(Params, frozen=True, kw_only=True):
    """flows.list"""

    user_id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class FlowNamed(Params, frozen=True, kw_only=True):
    """flows.versions and flows.delete"""

    name: FlowName
    user_id: Text | None = None


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
    label: str | UnsetType = UNSET
    share: str | UnsetType = UNSET
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


def _saved(native: Json) -> tuple[int, Json]:
    """201 for a new version; 200 if there was none to add."""
    return (201 if native["is_new"] else 200), native


@method(
    "flows.save",
    role=OPERATOR,
    answer=SavedFlow,
    rest=[
        Rest(
            "saveFlow",
            "PUT flows/<name>/",
            answers={201: SavedFlow, 200: SavedFlow},
            answered=_saved,
            errors=(errors.TaskNotFound, errors.LimitReached, *TREE_ERRORS),
            rules={"anyOf": has_one_of("tasks", "task_id")},
        )
    ],
)
async def save(caller: Caller, given: SaveFlow) -> DataResult:
    """Save a flow: its next version, unless the newest one has the same content."""
    saved = await pools.write(
        flows.save_flow,
        caller=caller,
        name=given.name,
        tasks=None if given.tasks is UNSET else given.tasks,
        task_id=given.task_id,
        inputs_schema=given.inputs_schema,
        description=given.description,
        is_tool=given.is_tool,
    )
    native = native_flow(saved.flow, saved.version)
    return DataResult(native=native | {"is_new": saved.is_new, "warnings": saved.warnings})


@method(
    "flows.get", role=VIEWER, answer=Flow, rest=[Rest("getFlow", "GET flows/<name>/", errors=(errors.FlowNotFound,))]
)
def get(caller: Caller, given: GetFlow) -> DataResult:
    """Return a version of a flow, by default the newest, with its tasks."""
    found = flows.read_version(caller=caller, name=given.name, version=given.version, user_id=given.user_id)
    return DataResult(native=native_flow(*found))


@method("flows.list", role=VIEWER, answer=Flows, rest=[Rest("listFlows", "GET flows/")])
def list_flows(caller: Caller, given: ListFlows) -> DataResult:
    """Return a page of flows by name, each with its newest run, without their tasks."""
    listed, cursor = flow_lists.list_flows(caller=caller, user_id=given.user_id, limit=given.limit, cursor=given.cursor)
    return DataResult(native={"flows": [_listed(each) for each in listed], "next_cursor": cursor})


@method(
    "flows.versions",
    role=VIEWER,
    answer=FlowVersions,
    rest=[Rest("listFlowVersions", "GET flows/<name>/versions/", errors=(errors.FlowNotFound,))],
)
def versions(caller: Caller, given: FlowNamed) -> DataResult:
    """Return the versions of a flow that are kept, newest first, without their tasks."""
    flow, found = flow_lists.versions_of(caller=caller, name=given.name, user_id=given.user_id)
    shown = [
        {"version": each.number, "description": each.description, "created_at": _time(each.created_at)}
        for each in found
    ]
    return DataResult(native={"name": flow.name, "user_id": flow.user_id, "versions": shown})


@method(
    "flows.delete",
    role=OPERATOR,
    answer=FlowDeleted,
    rest=[Rest("deleteFlow", "DELETE flows/<name>/", errors=(errors.FlowNotFound,))],
)
async def delete(caller: Caller, given: FlowNamed) -> DataResult:
    """Delete a flow and its versions. Its runs are kept."""
    deleted = await pools.write(flows.delete_flow, caller=caller, name=given.name, user_id=given.user_id)
    native = {
        "success": True,
        "name": deleted.name,
        "versions_deleted": deleted.versions,
        "runs_kept": deleted.runs_kept,
    }
    return DataResult(native=native)


@method(
    "flows.run",
    role=OPERATOR,
    answer=FlowExecution,
    rest=[
        Rest(
            "runFlow",
            "POST flows/<name>/runs/",
            answers={200: FlowExecution, 202: FlowExecution},
            answered=executed,
            errors=(errors.FlowNotFound, errors.LimitReached, *TREE_ERRORS),
            without=frozenset({"last_event_id", "use_streaming"}),
        )
    ],
)
async def run(
    caller: Caller, given: RunFlow, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Run a flow with inputs, as a new tree. Replies at once, unless `wait` is set."""
    execution = await start(
        caller,
        given,
        flows.run_flow,
        token=token,
        llm_key=llm_key,
        name=given.name,
        version=given.version,
        inputs=given.inputs,
        key=given.share_key,
        user_id=given.user_id,
    )
    return await replied(caller, given, execution, flow=native_flow_of(given.name.partition("@")[0], execution.run))


def native_flow(flow: models.Flow, version: models.FlowVersion) -> Json:
    """Return a version of a flow, as clients get it."""
    return {
        "name": flow.name,
        "user_id": flow.user_id,
        "version": version.number,
        "newest_version": flow.version,
        "description": version.description,
        "is_tool": flow.is_tool,
        "inputs_schema": version.inputs_schema,
        "tasks": version.definition,
        "created_at": _time(version.created_at),
    }


def _listed(listed: Listed) -> Json:
    return {
        "name": listed.flow.name,
        "user_id": listed.flow.user_id,
        "version": listed.version.number,
        "description": listed.version.description,
        "is_tool": listed.flow.is_tool,
        "inputs_schema": listed.version.inputs_schema,
        "created_at": _time(listed.flow.created_at),
        "updated_at": _time(listed.flow.updated_at),
        "last_run": native_run(listed.runs[0]) if listed.runs else None,
    }


def native_run(run: Run) -> Json:
    """Return a run of a flow."""
    return {
        "run_id": run.id,
        "task_id": run.root_id,
        "version": run.flow_version,
        **by_label(run.flow_label),
        "status": run.status,
        "created_at": _time(run.created_at),
        "started_at": run.started_at and _time(run.started_at),
        "finished_at": run.finished_at and _time(run.finished_at),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
