"""The results of the methods for runs, as types."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from a2a.methods.call_responses import ModelCall
from a2a.methods.response import Response
from a2a.methods.responses import Event, FlowRef, ParentRun, RunStatus, TokenUsage, Tree
from tasks.rules.strict_json import Json
from tasks.status import Status


class Run(Response, frozen=True, kw_only=True):
    """A run. `task_id` is what it runs: the root of its tree, or a part; `name` is that of the root.

    `number` counts the runs of the tree from 1. `seconds` is the duration, so far; null before the start.
    `error` is the start of the error that failed the run. `token_usage` is what its model calls used; null without any.
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
    token_usage: TokenUsage | None


class Runs(Response, frozen=True, kw_only=True):
    """A page of runs. `next_cursor` is null on the last page."""

    runs: list[Run]
    next_cursor: str | None


class RunWithInputs(Run, frozen=True, kw_only=True):
    """A run with its inputs."""

    inputs: Json


class Failure(Response, frozen=True, kw_only=True):
    """A task that failed in a run."""

    task_id: str
    name: str
    error: str | None


class WorkerDeath(Response, frozen=True, kw_only=True):
    """The end of a worker process that counts against a run.

    A negative `exit_code` is that of a signal. `was_executing`: whether code of the run was executing; else the process had the
    run for itself.
    """

    at: str
    exit_code: int
    was_executing: bool


class Suspicion(Response, frozen=True, kw_only=True):
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


class RunDetail(RunWithInputs, frozen=True, kw_only=True):
    """A run with its inputs, the run that waits for it, the first ten tasks that failed it, the cause first, its first 100
    model calls, and the deaths of its workers.
    """

    parent_run: ParentRun | None
    failures: list[Failure]
    model_calls: list[ModelCall]
    suspicion: Suspicion


class RunTree(Response, frozen=True, kw_only=True):
    """A run, and its tree as it stood when the run ended; of a run that is not over, as it is now."""

    run: Run
    tree: Tree
    warnings: list[str]


class RunExport(Response, frozen=True, kw_only=True):
    """A whole run. `events` are there if they were asked for; those that have been deleted (`events.keep_days`) are missing."""

    run: RunDetail
    tree: Tree
    warnings: list[str]
    events: list[Event] | UnsetType = UNSET


class Side(Response, frozen=True, kw_only=True):
    """A task in one of two runs. `seconds` is null if it has not both started and ended."""

    task_id: str
    status: Status
    inputs: Json
    params: Json | None
    result: Any
    error: str | None
    seconds: float | None
    token_usage: TokenUsage | None


class Pair(Response, frozen=True, kw_only=True):
    """A task in both runs; null where it does not exist. `changed` names the fields that differ. `key` is the id that was sent."""

    key: str
    name: str
    a: Side | None
    b: Side | None
    changed: list[Literal["status", "inputs", "params", "result", "error"]]


class Comparison(Response, frozen=True, kw_only=True):
    """Two runs, and their tasks in the order of the second one."""

    a: RunWithInputs
    b: RunWithInputs
    tasks: list[Pair]
    warnings: list[str]
