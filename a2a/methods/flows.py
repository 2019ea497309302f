"""Methods for flows: save a definition, list and read flows, and run one with inputs."""

from datetime import UTC, datetime

from msgspec import UNSET

from a2a.methods import flow_params
from a2a.methods.execute import replied, start
from a2a.methods.results import DataResult, TaskResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.header import SentKey
from tasks.models import Flow, FlowVersion, Run
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import flow_lists
from tasks.services.flows.flow_lists import Listed
from tasks.services.trees.idempotency import Token


async def save(caller: Caller, given: flow_params.SaveFlow) -> DataResult:
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


def get(caller: Caller, given: flow_params.GetFlow) -> DataResult:
    """Return a version of a flow, by default the newest, with its tasks."""
    found = flows.read_version(caller=caller, name=given.name, version=given.version, user_id=given.user_id)
    return DataResult(native=native_flow(*found))


def list_flows(caller: Caller, given: flow_params.ListFlows) -> DataResult:
    """Return a page of flows by name, each with its newest run, without their tasks."""
    listed, cursor = flow_lists.list_flows(caller=caller, user_id=given.user_id, limit=given.limit, cursor=given.cursor)
    return DataResult(native={"flows": [_listed(each) for each in listed], "next_cursor": cursor})


def versions(caller: Caller, given: flow_params.FlowNamed) -> DataResult:
    """Return the versions of a flow that are kept, newest first, without their tasks."""
    flow, found = flow_lists.versions_of(caller=caller, name=given.name, user_id=given.user_id)
    shown = [
        {"version": each.number, "description": each.description, "created_at": _time(each.created_at)}
        for each in found
    ]
    return DataResult(native={"name": flow.name, "user_id": flow.user_id, "versions": shown})


async def delete(caller: Caller, given: flow_params.FlowNamed) -> DataResult:
    """Delete a flow and its versions. Its runs are kept."""
    deleted = await pools.write(flows.delete_flow, caller=caller, name=given.name, user_id=given.user_id)
    native = {
        "success": True,
        "name": deleted.name,
        "versions_deleted": deleted.versions,
        "runs_kept": deleted.runs_kept,
    }
    return DataResult(native=native)


async def run(
    caller: Caller, given: flow_params.RunFlow, *, token: Token | None = None, llm_key: SentKey | None = None
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
        user_id=given.user_id,
    )
    return await replied(caller, given, execution, flow={"name": given.name, "version": execution.run.flow_version})


def native_flow(flow: Flow, version: FlowVersion) -> Json:
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
        "status": run.status,
        "created_at": _time(run.created_at),
        "started_at": run.started_at and _time(run.started_at),
        "finished_at": run.finished_at and _time(run.finished_at),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
