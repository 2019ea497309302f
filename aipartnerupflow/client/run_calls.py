"""The methods for runs as values, as in `calls`."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from .calls import Call, given, headers_of
from .types import Comparison, Execution, Json, ModelCalls, RunDetail, RunExport, Runs, RunStatus, RunTree


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
