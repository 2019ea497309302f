"""The results of each method on `/tasks` and `/system`, as types.

The published schemas come from them.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from a2a.methods.call_responses import ModelCall
from a2a.methods.response import Response
from a2a.methods.schedule_responses import TaskSchedule
from a2a.methods.task_schemas import NewTask
from tasks.rules.strict_json import Json
from tasks.status import Status

RunStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]


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


class Tree(Task, frozen=True, kw_only=True):
    """A task with its descendants."""

    children: "list[Tree]"


class BudgetLimit(Response, frozen=True, kw_only=True):
    """A limit of `params.budget`, and what the latest run has spent of it. `text` says both."""

    measure: Literal["tokens", "cost_usd", "seconds", "tasks"]
    spent: float
    allowed: float
    text: str


class TreeNode(Task, frozen=True, kw_only=True):
    """A task of `tasks.tree` with its descendants. `task` repeats its fields for clients of apflow 0.12 and later.

    Only a root has its latest run (null before the first), and only one with a budget has `budget`.
    """

    task: Task
    run_id: str | UnsetType | None = UNSET
    run_number: int | UnsetType | None = UNSET
    budget: list[BudgetLimit] | UnsetType = UNSET
    children: "list[TreeNode]"


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
    timestamp: str
    protocol: Literal["jsonrpc", "a2a"]


class Timings(Response, frozen=True, kw_only=True):
    """Seconds from the start of the run to that of the task, and from there to its end or now."""

    queued_seconds: float | None
    run_seconds: float | None


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


class OpenQuestion(Question, frozen=True, kw_only=True):
    """An open question with the id of the task that asks it, for `tasks.answer`."""

    task_id: str


class OpenQuestions(Response, frozen=True, kw_only=True):
    """Open questions of the caller's trees, and those that the caller may answer as an assignee; oldest first."""

    questions: list[OpenQuestion]


class Answered(Response, frozen=True, kw_only=True):
    """The recorded answer to a question."""

    success: bool
    task_id: str
    question_id: str
    question: str
    answer: Any
    by: str
    comment: str | None


class Wait(Response, frozen=True, kw_only=True):
    """The wait of a task, if not for an answer: a time, an event, or a run of its own (`child_run`). At `until` a wait for a time is over, and one for an
    event times out. A `POST` to `hook_url` ends a wait for an event, without a login; null if the caller may not do that. Without `server.public_url` it begins as the address that was called.
    """

    kind: Literal["time", "event", "run"]
    since: str
    until: str | None
    on_timeout: Literal["fail", "complete"]
    event: str | None
    match: Json | None
    hook_url: str | None


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
    """The flow of which a run was made, and the version. `name` is null if the flow has been deleted."""

    name: str | None
    version: int


class Detail(Task, frozen=True, kw_only=True):
    """A task with at most 100 events and 100 model calls, its relatives, resolved inputs, timings, and open question or wait."""

    events: list[Event]
    children: list[Task]
    dependants: list[Task]
    resolved_inputs: Json
    timings: Timings
    question: Question | None
    wait: Wait | None
    child_run: ChildRun | None
    parent_run: ParentRun | None
    flow: FlowRef | None
    model_calls: list[ModelCall]


class SentEvent(Response, frozen=True, kw_only=True):
    """An event that was sent. `woken` is how many waits took it; events with the same `id` are one."""

    event: str
    payload: Any
    id: str
    received_at: str
    woken: int


class Page(Response, frozen=True, kw_only=True):
    """A page of tasks. `next_cursor` is null on the last page."""

    tasks: list[ListedTask]
    next_cursor: str | None


class Counts(Response, frozen=True, kw_only=True):
    """The number of tasks in each status."""

    pending: int
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    total: int


class Deletion(Response, frozen=True, kw_only=True):
    """The number of deleted tasks, and how many of them were descendants."""

    success: bool
    task_id: str
    deleted_count: int
    children_deleted: int


class Cancellation(Response, frozen=True, kw_only=True):
    """The result of cancelling one task."""

    task_id: str
    status: Literal["cancelled", "failed"]
    message: str
    current_status: Status | None
    result: Any = UNSET
    token_usage: TokenUsage | UnsetType = UNSET


class Standing(Response, frozen=True, kw_only=True):
    """The status of a task; a root reports its latest run."""

    task_id: str
    context_id: str | None
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled", "skipped", "not_found"]
    progress: float
    error: str | None
    is_running: bool
    started_at: str | None
    updated_at: str | None


class RunningCount(Response, frozen=True, kw_only=True):
    """The number of trees that are running or waiting for a worker."""

    count: int


class Check(Response, frozen=True, kw_only=True):
    """A readiness check. `fix` tells the operator what to do if it is not `ok`."""

    ok: bool
    message: str
    fix: str | None


class Health(Response, frozen=True, kw_only=True):
    """The readiness of the server."""

    status: Literal["ok", "degraded"]
    version: str
    ready: bool
    checks: dict[str, Check]


class Executor(Response, frozen=True, kw_only=True):
    """The description of an executor.

    `extra` is the package extra that it needs; `pool` is where it runs unless the task chooses.
    """

    id: str
    name: str
    description: str
    tags: list[str]
    input_schema: Json
    result_schema: Json | None
    idempotent: bool
    cancelable: bool
    pool: Literal["loop", "thread", "process"]
    extra: str | None
    enabled: bool
    example: Any
    example_result: Any


class UsageRow(Response, frozen=True, kw_only=True):
    """Sums of model calls. Only the fields by which they are grouped are there; `model` is null if it is not known, `flow` for runs of no flow.

    `cost_usd` leaves out `unpriced_calls`, whose cost is unknown; null if that is all of them.
    """

    day: str | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    executor: str | UnsetType = UNSET
    flow: str | UnsetType | None = UNSET
    user: str | UnsetType = UNSET
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: float | None
    unpriced_calls: int


class Usage(Response, frozen=True, kw_only=True):
    """The usage of model calls from `since` to `until`, both included, in UTC.

    `today` has the limits that the operator has set for each user and day.
    """

    since: str
    until: str
    by: list[Literal["day", "model", "executor", "flow", "user"]]
    rows: list[UsageRow]
    total: UsageRow
    today: list[BudgetLimit]


class Generated(Response, frozen=True, kw_only=True):
    """A generated tree. `root_task_id` is present if it was stored, `run_id` if it runs."""

    tasks: list[NewTask]
    count: int
    message: str
    root_task_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET


class Examples(Response, frozen=True, kw_only=True):
    """The roots of the stored examples."""

    root_task_ids: list[str]
    count: int
