"""Methods for flows: save a definition, read it, and run it with inputs."""

from functools import partial

from msgspec import UNSET

from a2a.methods import flow_params
from a2a.methods.execute import replied, start
from a2a.methods.results import DataResult, TaskResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.header import SentKey
from tasks.models import Flow, FlowVersion
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.idempotency import Token


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
    )
    native = native_flow(saved.flow, saved.version)
    return DataResult(native=native | {"is_new": saved.is_new, "warnings": saved.warnings})


async def get(caller: Caller, given: flow_params.GetFlow) -> DataResult:
    """Return a version of a flow, by default the newest, with its tasks."""
    read = partial(flows.get_version, caller=caller, name=given.name, version=given.version, user_id=given.user_id)
    return DataResult(native=native_flow(*await pools.read(read)))


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
    """A version of a flow, as clients get it."""
    return {
        "name": flow.name,
        "user_id": flow.user_id,
        "version": version.number,
        "newest_version": flow.version,
        "description": version.description,
        "inputs_schema": version.inputs_schema,
        "tasks": version.definition,
        "created_at": version.created_at.isoformat(),
    }
