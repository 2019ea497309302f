"""The results of the methods for runs, as in `types`."""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

from .types import Event, FlowRef, Json, ModelCall, ParentRun, RunStatus, Status, Task


class Run(TypedDict):
    """A run. `task_id` is what it runs: the root of its tree, or a part; `name` is that of the root.

    `number` counts the runs of the tree from 1. `seconds` is the duration, so far; None before the start.
    `error` is the start of the error that failed the run.
    """

    id: str
    task_id: str
    root_task_id: str
    name: str
    number: int
    status: RunStatus
    user_id: str
    context_id: str
    flow: FlowRef | None
    schedule_id: str | None
    scheduled_for: str | None
    tags: list[str]
    error: str | None
    is_demo: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    seconds: float | None
    token_usage: Json | None


class RunPage(TypedDict):
    """A page of runs. `next_cursor` is None on the last page."""

    runs: list[Run]
    next_cursor: str | None


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


class RunWithInputs(Run):
    """A run with its inputs."""

    inputs: Json


class Failure(TypedDict):
    """A task that failed in a run."""

    task_id: str
    name: str
    error: str | None


class WorkerDeath(TypedDict):
    """The end of a worker process that counts against a run.

    A negative `exit_code` is that of a signal. `was_executing`: whether code of the run was executing; else the process had the
    run for itself.
    """

    at: str
    exit_code: int
    was_executing: bool


class Suspicion(TypedDict):
    """The deaths of workers that had a run in hand, since it last made progress.

    `strikes` count against the run, and `deaths` has the latest of them, also earlier ones; `losses` count against all runs that
    the worker had in hand, and `host_losses` against none: the whole server was lost. A run `is_suspected` after a strike, or
    three losses, and `since` when. Then `is_waiting` says whether it waits for a process of its own, `waiting` how many runs do,
    and `oldest` since when the oldest of all is suspected.
    """

    is_suspected: bool
    since: str | None
    strikes: int
    losses: int
    host_losses: int
    deaths: list[WorkerDeath]
    is_waiting: bool
    waiting: int
    oldest: str | None


class RunDetail(RunWithInputs):
    """A run with its inputs, the run that waits for it, the first ten tasks that failed it, the cause first, and the deaths
    of its workers.
    """

    parent_run: ParentRun | None
    failures: list[Failure]
    model_calls: list[ModelCall]
    suspicion: Suspicion


class ModelCallWithContent(ModelCall):
    """A call with what was said: `messages`, `answer`, `reasoning`, `citations` and `tool_calls`, within bounds; None if that is not stored."""

    content: Json | None


class ModelCallPage(TypedDict):
    """A page of model calls. `next_cursor` is None on the last page."""

    calls: list[ModelCallWithContent]
    next_cursor: str | None


class RunTree(TypedDict):
    """A run, and its tree as it stood when the run ended."""

    run: Run
    tree: Task
    warnings: list[str]


class RunExport(TypedDict):
    """A whole run. `events` are there if they were asked for."""

    run: RunDetail
    tree: Task
    warnings: list[str]
    events: NotRequired[list[Event]]


class Side(TypedDict):
    """A task in one of two runs."""

    task_id: str
    status: Status
    inputs: Json
    params: Json | None
    result: Any
    error: str | None
    seconds: float | None
    token_usage: Json | None


class Pair(TypedDict):
    """A task in both runs; None where it does not exist. `changed` names the fields that differ."""

    key: str
    name: str
    a: Side | None
    b: Side | None
    changed: list[Literal["status", "inputs", "params", "result", "error"]]


class Comparison(TypedDict):
    """Two runs, and their tasks in the order of the second one."""

    a: RunWithInputs
    b: RunWithInputs
    tasks: list[Pair]
    warnings: list[str]
