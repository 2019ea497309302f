"""The methods for flows as values, as in `calls`."""

from collections.abc import Sequence

from .calls import Call, Tasks, given, headers_of
from .types import Flow, FlowDeleted, FlowExecution, Flows, FlowVersions, Json, SavedFlow


def save_flow(
    name: str,
    tasks: Tasks | None = None,
    *,
    task_id: str | None = None,
    inputs_schema: Json | None = None,
    description: str | None = None,
    is_tool: bool | None = None,
) -> Call[SavedFlow]:
    """Save the next version of a flow: these tasks, or the tree of a stored task.

    If the newest version has the same content, it is returned, and no other one is added. `is_tool` says whether
    MCP clients get the flow as a tool; None leaves that as it is.
    """
    params = given(
        name=name,
        tasks=tasks,
        task_id=task_id,
        inputs_schema=inputs_schema,
        description=description,
        is_tool=is_tool,
    )
    return Call("flows.save", params)


def run_flow(
    name: str,
    inputs: Json | None = None,
    *,
    version: int | None = None,
    wait: bool = False,
    wait_timeout_seconds: float = 30,
    use_demo: bool = False,
    user_id: str | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[FlowExecution]:
    """Run a flow with inputs, as a new tree; the newest version, unless `version` says otherwise.

    The other options are those of `execute`.
    """
    params = given(
        name=name,
        inputs=inputs,
        version=version,
        wait=wait,
        wait_timeout_seconds=wait_timeout_seconds if wait else None,
        use_demo=use_demo,
        tags=None if tags is None else list(tags),
        user_id=user_id,
    )
    return Call(
        "flows.run",
        params,
        wait_seconds=wait_timeout_seconds if wait else 0,
        headers=headers_of(idempotency_key, llm_key),
    )


def get_flow(name: str, *, version: int | None = None, user_id: str | None = None) -> Call[Flow]:
    """One version of a flow with its tasks; by default the newest."""
    return Call("flows.get", given(name=name, version=version, user_id=user_id))


def flows(*, limit: int | None = None, cursor: str | None = None, user_id: str | None = None) -> Call[Flows]:
    """Return a page of your flows, by name, each with its newest run."""
    return Call("flows.list", given(limit=limit, cursor=cursor, user_id=user_id))


def flow_versions(name: str, *, user_id: str | None = None) -> Call[FlowVersions]:
    """Return the versions of a flow that are kept, newest first."""
    return Call("flows.versions", given(name=name, user_id=user_id))


def delete_flow(name: str, *, user_id: str | None = None) -> Call[FlowDeleted]:
    """Delete a flow and its versions. Its runs are kept."""
    return Call("flows.delete", given(name=name, user_id=user_id))
