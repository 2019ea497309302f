"""Types of results that several methods have.

The published schemas come from them."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from a2a.methods.method import Response
from tasks.rules.strict_json import Json
from tasks.status import Status

RunStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
ScheduleType = Literal["once", "interval", "cron", "daily", "weekly", "monthly"]


class TaskSchedule(Response, frozen=True, kw_only=True):
    """The schedule of a root that has one of its own. Other tasks lack the fields."""

    schedule_type: ScheduleType | UnsetType = UNSET
    schedule_expression: str | UnsetType = UNSET
    schedule_enabled: bool | UnsetType = UNSET
    schedule_start_at: str | UnsetType | None = UNSET
    schedule_end_at: str | UnsetType | None = UNSET
    next_run_at: str | UnsetType | None = UNSET
    last_run_at: str | UnsetType | None = UNSET
    max_runs: int | UnsetType | None = UNSET
    run_count: int | UnsetType = UNSET


class CallUsage(Response, frozen=True, kw_only=True):
    """The tokens of one call. `cached_tokens` of the prompt and `reasoning_tokens` of the completion are null if unknown."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None
    reasoning_tokens: int | None


class Feedback(Response, frozen=True, kw_only=True):
    """The opinion of a person on a model call: a `thumb`, a `score` from 0 to 1 and a `note`, each null if it was not given.

    `by` is the user who changed it last, and `at` when.
    """

    thumb: Literal["up", "down"] | None
    score: float | None
    note: str | None
    by: str
    at: str


class ModelCall(Response, frozen=True, kw_only=True):
    """One call of a language model by a task.

    `agent` and `crew_task` are those of a crew, `step` that of an agent, from 1. `duration_ms` is null for a call that
    an executor made itself and reported, and `first_token_ms`, the time to the first word, for an answer that came at once.
    `feedback` is null until `feedback.set` sets it.
    """

    id: str
    task_id: str
    executor: str
    attempt: int
    step: int | None
    agent: str | None
    crew_task: str | None
    model: str
    status: Literal["completed", "failed", "cancelled"]
    started_at: str
    duration_ms: int | None
    first_token_ms: int | None
    usage: CallUsage | None
    cost_usd: float | None
    finish_reason: str | None
    error: str | None
    feedback: Feedback | None


class Dependency(Response, frozen=True, kw_only=True):
    """A task that must finish first; if `required`, it must complete or, with `on_skip`, be skipped."""

    id: str
    required: bool
    on_skip: Literal["run"] | UnsetType = UNSET
    as_: str | UnsetType = field(default=UNSET, name="as")


class TokenUsage(Struct, frozen=True, kw_only=True):
    """The tokens that a task, or a run, used at a language model, and their cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_usd: float | None = None


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of one of the checks of a task. `reason` says what it found, or who has approved it."""

    on: Literal["input", "output"]
    name: str
    passed: bool
    reason: str | None
    then: Literal["fail", "ask", "redact", "retry"]


class CachedFrom(Response, frozen=True, kw_only=True):
    """The task, and its run, whose result from then a task took (`params.cache`). The ids are null for one of another user."""

    task_id: str | None
    run_id: str | None
    at: str


class TaskSummary(TaskSchedule, frozen=True, kw_only=True):
    """The fields of a task that are small. Times are ISO 8601 in UTC, with an offset."""

    id: str
    parent_id: str | None
    root_task_id: str
    user_id: str
    name: str
    status: Status
    priority: int
    dependencies: list[Dependency]
    error: str | None
    progress: float
    attempt: int
    token_usage: TokenUsage | None
    has_children: bool
    has_copy: bool
    original_task_id: str | None
    origin_type: Literal["create", "copy"]
    spawned_by: str | UnsetType = UNSET
    checks: list[CheckResult] | UnsetType = UNSET
    not_run: bool | UnsetType = UNSET
    cause_id: str | UnsetType = UNSET
    cached_from: CachedFrom | UnsetType = UNSET
    run_status: RunStatus | UnsetType | None = UNSET
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None


class Task(TaskSummary, frozen=True, kw_only=True):
    """A task without its children. `run_status` of a root is that of its latest run, null before the first."""

    inputs: Json
    schemas: Json | None
    params: Json | None
    result: Any


class ListedTask(TaskSummary, frozen=True, kw_only=True):
    """A task of `tasks.list`; a root with its latest run (null before the first).

    A summary lacks inputs, schemas, params and result, and of a root has the number of tasks in each
    status; null if the page has too many to count.
    """

    inputs: Json | UnsetType = UNSET
    schemas: Json | UnsetType | None = UNSET
    params: Json | UnsetType | None = UNSET
    result: Any = UNSET
    run_id: str | UnsetType | None = UNSET
    run_number: int | UnsetType | None = UNSET
    task_counts: dict[Status, int] | UnsetType | None = UNSET
    not_run_count: int | UnsetType = UNSET


class Tree(Task, frozen=True, kw_only=True):
    """A task with its descendants."""

    children: "list[Tree]"


class Webhook(Response, frozen=True, kw_only=True):
    """The webhook of a run. `signing_key` signs its events; present if the request had no token."""

    id: str
    signing_key: str | UnsetType = UNSET


class StoredTree(Tree, frozen=True, kw_only=True):
    """A stored tree. `ids` maps each sent or copied id to the stored one."""

    ids: dict[str, str]
    warnings: list[str]
    webhook: Webhook | UnsetType = UNSET


class Execution(Response, frozen=True, kw_only=True):
    """The reply to an execution.

    `status` is `started`, `already_running` or the final status of the run. `task` is the final
    tree, with `wait`.
    """

    success: bool
    protocol: Literal["jsonrpc"]
    task_id: str
    root_task_id: str
    status: Literal["started", "already_running", "completed", "failed", "cancelled"]
    message: str
    ids: dict[str, str]
    original_task_id: str | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    webhook: Webhook | UnsetType = UNSET
    task: Tree | UnsetType = UNSET


class Event(Response, frozen=True, kw_only=True):
    """An event of a run. `seq` is 1, 2, 3 … within the run; `final` occurs once, when the run ends."""

    type: Literal[
        "progress",
        "task_start",
        "task_completed",
        "task_failed",
        "task_cancelled",
        "task_skipped",
        "task_spawned",
        "task_retry",
        "log",
        "token",
        "final",
        "stream_end",
    ]
    seq: int
    run_id: str
    task_id: str
    root_task_id: str
    status: Status
    progress: float
    tree_progress: float
    message: str
    result: Any
    error: str | None
    not_run: bool | UnsetType = UNSET
    cause_id: str | UnsetType = UNSET
    cached_from: CachedFrom | UnsetType = UNSET
    timestamp: str
    protocol: Literal["jsonrpc", "a2a"]


class Question(Response, frozen=True, kw_only=True):
    """The open question of a task. `schema` is that of a form. `answer_url` needs no login; null if the caller may not answer."""

    id: str
    text: str
    options: list[str] | None
    schema: Json | None
    assignees: list[str] | None
    asked_at: str
    expires_at: str | None
    answer_url: str | None


class ChildRun(Response, frozen=True, kw_only=True):
    """The newest run that a task has started and waited for. `task_id` is the root of its tree."""

    run_id: str
    task_id: str
    status: Status


class ParentRun(Response, frozen=True, kw_only=True):
    """The run whose task `task_id` has started the run of this tree, and waits for it."""

    run_id: str
    task_id: str


class FlowRef(Response, frozen=True, kw_only=True):
    """The flow and the version that a run executes. `name` is null if the flow has been deleted.

    With the `label` that the caller named; `share` is the one whose version the run has, if it got a share of that label's callers.
    """

    name: str | None
    version: int
    label: str | UnsetType = UNSET
    share: str | UnsetType = UNSET


class BudgetLimit(Response, frozen=True, kw_only=True):
    """A limit of `params.budget`, and what the latest run has spent of it. `text` says both."""

    measure: Literal["tokens", "cost_usd", "seconds", "tasks"]
    spent: float
    allowed: float
    text: str


class Wait(Response, frozen=True, kw_only=True):
    """The wait of a task, if not for an answer: a time, an event, a run of its own (`child_run`), or its turn in a named `limit`, or an equal `call`. `text` says for what, as in "waits for limit crm, about 12 s". At `until` a wait for a time is over, and one for an
    event times out. A `POST` to `hook_url` ends a wait for an event, without a login; null if the caller may not do that. Without `server.public_url` it begins as the address that was called.
    """

    kind: Literal["time", "event", "run", "limit", "call"]
    since: str
    until: str | None
    on_timeout: Literal["fail", "complete"]
    event: str | None
    match: Json | None
    limit: str | None
    text: str
    hook_url: str | None
