"""The methods for flows, schedules and runs as values, as in `calls`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from .calls import Call, Tasks, given, headers_of, inputs_of_run
from .types import (
    Comparison,
    Execution,
    Flow,
    FlowDeleted,
    FlowExecution,
    Flows,
    FlowVersions,
    GivenFeedback,
    Json,
    Labels,
    ModelCalls,
    RunDetail,
    RunExport,
    Runs,
    RunStatus,
    RunTree,
    SavedFlow,
    Schedule,
    ScheduleDeleted,
    ScheduledRun,
    ScheduledRuns,
    SchedulePreview,
    Schedules,
)


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
    run_inputs: Json | None = None,
    version: int | None = None,
    share_key: str | None = None,
    wait: bool = False,
    wait_timeout_seconds: float = 30,
    use_demo: bool = False,
    user_id: str | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[FlowExecution]:
    """Run a flow with inputs, also called `run_inputs`, as a new tree; the newest version, unless `version` or NAME@LABEL says otherwise.

    Runs with one `share_key`, such as a session, all get the same version while a label shares its callers. The other options are those of `execute`.
    """
    params = given(
        name=name,
        inputs=inputs_of_run(inputs, run_inputs),
        version=version,
        share_key=share_key,
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


def label_flow(
    name: str,
    label: str,
    *,
    reason: str,
    version: int | None = None,
    shares: Mapping[str, float] | None = None,
    policy: Json | None = None,
    user_id: str | None = None,
) -> Call[Labels]:
    """Give a label of a flow a version, `shares` of its callers such as `{"candidate": 10}` percent, or a `policy`; an empty one removes it."""
    changed = given(version=version, shares=None if shares is None else dict(shares), user_id=user_id)
    of_policy = {} if policy is None else {"policy": policy or None}
    return Call("flows.label", {"name": name, "label": label, "reason": reason, **changed, **of_policy})


def undo_label(name: str, label: str, *, reason: str, user_id: str | None = None) -> Call[Labels]:
    """Give a label the version back that it had before its newest move."""
    return Call("flows.undo_label", given(name=name, label=label, reason=reason, user_id=user_id))


def unlabel_flow(name: str, label: str, *, reason: str, user_id: str | None = None) -> Call[Labels]:
    """Remove a label of a flow."""
    return Call("flows.unlabel", given(name=name, label=label, reason=reason, user_id=user_id))


def flow_labels(name: str, *, user_id: str | None = None) -> Call[Labels]:
    """Return the labels of a flow with their moves."""
    return Call("flows.labels", given(name=name, user_id=user_id))


def delete_flow(name: str, *, user_id: str | None = None) -> Call[FlowDeleted]:
    """Delete a flow and its versions. Its runs are kept."""
    return Call("flows.delete", given(name=name, user_id=user_id))


Overlap = Literal["skip", "queue", "cancel_previous", "allow"]


class ScheduleFields(TypedDict, total=False):
    """The fields of a schedule that may be set. None clears a field that may be absent."""

    name: str
    tasks: Any
    task_id: str
    flow: str
    flow_version: int | None
    inputs: Json | None
    tags: list[str] | None
    cron: str
    every_seconds: int
    at: str
    timezone: str
    starts_at: str | None
    ends_at: str | None
    max_runs: int | None
    overlap: Overlap
    catch_up: Literal["none", "last", "all"]
    catch_up_window_seconds: int
    jitter_seconds: int
    pause_after_failures: int | None


def create_schedule(
    *,
    is_paused: bool = False,
    user_id: str | None = None,
    idempotency_key: str | None = None,
    **fields: Unpack[ScheduleFields],
) -> Call[Schedule]:
    """Store a schedule: `tasks`, `task_id` or `flow`, and `cron`, `every_seconds` or `at`.

    Administrators may store it for another user, whose flow it is then: `user_id`.
    """
    params = {**fields, **({"is_paused": True} if is_paused else {}), **given(user_id=user_id)}
    return Call("schedules.create", params, headers=headers_of(idempotency_key, None))


def schedule(schedule_id: str) -> Call[Schedule]:
    """Return a schedule, with its tree."""
    return Call("schedules.get", {"schedule_id": schedule_id})


def schedules(
    *, user_id: str | None = None, is_paused: bool | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[Schedules]:
    """Return a page of schedules, the newest first."""
    return Call("schedules.list", given(user_id=user_id, is_paused=is_paused, limit=limit, cursor=cursor))


def update_schedule(schedule_id: str, **fields: Unpack[ScheduleFields]) -> Call[Schedule]:
    """Change a schedule."""
    return Call("schedules.update", {"schedule_id": schedule_id, **fields})


def delete_schedule(schedule_id: str) -> Call[ScheduleDeleted]:
    """Delete a schedule. Its trees and runs are kept."""
    return Call("schedules.delete", {"schedule_id": schedule_id})


def pause_schedule(schedule_id: str, *, reason: str | None = None) -> Call[Schedule]:
    """Start no run of a schedule until it is resumed."""
    return Call("schedules.pause", given(schedule_id=schedule_id, reason=reason))


def resume_schedule(schedule_id: str) -> Call[Schedule]:
    """Continue a paused schedule with its next time."""
    return Call("schedules.resume", {"schedule_id": schedule_id})


def trigger_schedule(
    schedule_id: str, *, overlap: Overlap | None = None, idempotency_key: str | None = None
) -> Call[ScheduledRun]:
    """Run a schedule now, as well as at its times."""
    params = given(schedule_id=schedule_id, overlap=overlap)
    return Call("schedules.trigger", params, headers=headers_of(idempotency_key, None))


def backfill_schedule(
    schedule_id: str, *, since: str, until: str, overlap: Overlap | None = None
) -> Call[ScheduledRuns]:
    """Run past times of a schedule that have had no run, one after the other unless `overlap` says otherwise."""
    return Call("schedules.backfill", given(schedule_id=schedule_id, since=since, until=until, overlap=overlap))


def preview_schedule(
    schedule_id: str | None = None, *, count: int | None = None, **timing: Any
) -> Call[SchedulePreview]:
    """Return the next times of a schedule, or of `cron`, `every_seconds` or `at` with a `timezone`. Stores nothing."""
    return Call("schedules.preview", given(schedule_id=schedule_id, count=count, **timing))


def schedule_runs(schedule_id: str, *, before: str | None = None, limit: int | None = None) -> Call[ScheduledRuns]:
    """List the times of a schedule with the action at each, the newest first."""
    return Call("schedules.runs", given(schedule_id=schedule_id, before=before, limit=limit))


class RunFilters(TypedDict, total=False):
    """Filters of runs. `since` and `until` are times in ISO 8601, or days; `until` is not included. With `fields`, runs have only these."""

    task_id: str
    flow: str
    status: RunStatus | list[RunStatus]
    tag: str
    text: str
    user_id: str
    since: str
    until: str
    fields: Sequence[str]


def runs(*, limit: int | None = None, cursor: str | None = None, **filters: Unpack[RunFilters]) -> Call[Runs]:
    """Return a page of runs, the newest first; the next one with its `next_cursor`."""
    if "fields" in filters:
        filters["fields"] = list(filters["fields"])
    return Call("runs.list", given(limit=limit, cursor=cursor) | filters)


def get_run(run_id: str) -> Call[RunDetail]:
    """Return a run with its inputs, and the first tasks that failed it."""
    return Call("runs.get", {"run_id": run_id})


def run_tree(run_id: str) -> Call[RunTree]:
    """Return the tree of a run as it stood when the run ended."""
    return Call("runs.tree", {"run_id": run_id})


def export_run(run_id: str, *, events: bool = False) -> Call[RunExport]:
    """Return a whole run: its inputs, its tree as it stood when the run ended and, with `events`, what happened in it."""
    return Call("runs.export", {"run_id": run_id, "events": events})


def model_calls(
    run_id: str, *, task_id: str | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[ModelCalls]:
    """Return a page of the model calls of a run, or of one of its tasks, with what was said, the oldest first."""
    return Call("runs.calls", given(run_id=run_id, task_id=task_id, limit=limit, cursor=cursor))


class Opinion(TypedDict, total=False):
    """The parts of the feedback on a model call or a run. None removes one."""

    thumb: Literal["up", "down"] | None
    score: float | bool | str | None
    note: str | None


def set_feedback(
    call_id: str | None = None,
    *,
    run_id: str | None = None,
    task_id: str | None = None,
    name: str | None = None,
    source: Literal["person", "end_user"] | None = None,
    **opinion: Unpack[Opinion],
) -> Call[GivenFeedback]:
    """Say what you think of a model call: `thumb`, `score` (0 to 1), `note`. Omitted parts stay as they are.

    Or score a run, or its task `task_id`: `score` is a number, a boolean or a category, by the `name` "feedback" and of an end user,
    unless you say otherwise. It replaces the score before it.
    """
    of = given(call_id=call_id, run_id=run_id, task_id=task_id, name=name, source=source)
    return Call("feedback.set", {**of, **opinion})


def compare_runs(a: str, b: str, *, changed_only: bool = False) -> Call[Comparison]:
    """Two runs task by task; with `changed_only`, without the tasks in which nothing differs."""
    return Call("runs.compare", given(a=a, b=b, changed_only=changed_only))


def fork(
    task_id: str,
    *,
    from_tasks: Sequence[str] | None = None,
    inputs: Mapping[str, Json] | None = None,
    run_inputs: Json | None = None,
    replace_inputs: bool = False,
    wait: bool = False,
    wait_timeout_seconds: float = 30,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[Execution]:
    """Run a tree again in a copy, from some of its tasks, and keep what was done before them.

    `inputs` maps the ids of tasks to their new inputs. Without `from_tasks` the run begins with these or, if
    there are none, with `task_id`. `run_inputs` and `replace_inputs` are as in `execute`.
    """
    params = given(
        task_id=task_id,
        from_tasks=None if from_tasks is None else list(from_tasks),
        inputs=None if inputs is None else dict(inputs),
        run_inputs=run_inputs,
        replace_inputs=replace_inputs or None,
        wait=wait,
        tags=None if tags is None else list(tags),
        wait_timeout_seconds=wait_timeout_seconds if wait else None,
    )
    return Call(
        "tasks.fork",
        params,
        wait_seconds=wait_timeout_seconds if wait else 0,
        headers=headers_of(idempotency_key, llm_key),
    )
