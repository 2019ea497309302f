"""Types of the server's replies.

The values are plain dicts, so fields of a newer server are present too.
"""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

Json = dict[str, Any]
Status = Literal["pending", "in_progress", "completed", "failed", "cancelled", "skipped"]
RunStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
ScheduleType = Literal["once", "interval", "cron", "daily", "weekly", "monthly"]


Dependency = TypedDict(
    "Dependency", {"id": str, "required": bool, "on_skip": NotRequired[Literal["run"]], "as": NotRequired[str]}
)
"""A task that must finish first; if `required`, it must complete or, with `on_skip`, be skipped. `as` names its result."""


class TaskSchedule(TypedDict, total=False):
    """The schedule of a root that has one of its own."""

    schedule_type: ScheduleType
    schedule_expression: str
    schedule_enabled: bool
    schedule_start_at: str | None
    schedule_end_at: str | None
    next_run_at: str | None
    last_run_at: str | None
    max_runs: int | None
    run_count: int


class Task(TaskSchedule):
    """A task. Times are ISO 8601 with an offset, `progress` is 0 to 1; only trees have `children`."""

    id: str
    parent_id: str | None
    root_task_id: str
    user_id: str
    name: str
    status: Status
    priority: int
    dependencies: list[Dependency]
    inputs: Json
    schemas: Json | None
    params: Json | None
    result: Any
    error: str | None
    progress: float
    attempt: int
    token_usage: Json | None
    has_children: bool
    has_copy: bool
    original_task_id: str | None
    origin_type: Literal["create", "copy"]
    spawned_by: NotRequired[str]
    run_status: NotRequired[RunStatus | None]
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    children: NotRequired[list["Task"]]


class ListedTask(TaskSchedule):
    """A task of a list; a root with its latest run (None before the first).

    A summary lacks `inputs`, `schemas`, `params` and `result`, and of a root has the number of tasks in each
    status, or None if the page has too many to count.
    """

    id: str
    parent_id: str | None
    root_task_id: str
    user_id: str
    name: str
    status: Status
    priority: int
    dependencies: list[Dependency]
    inputs: NotRequired[Json]
    schemas: NotRequired[Json | None]
    params: NotRequired[Json | None]
    result: NotRequired[Any]
    error: str | None
    progress: float
    attempt: int
    token_usage: Json | None
    has_children: bool
    has_copy: bool
    original_task_id: str | None
    origin_type: Literal["create", "copy"]
    spawned_by: NotRequired[str]
    run_status: NotRequired[RunStatus | None]
    run_id: NotRequired[str | None]
    run_number: NotRequired[int | None]
    task_counts: NotRequired[dict[Status, int] | None]
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None


class Webhook(TypedDict):
    """The webhook that was created. `signing_key` signs its events where the request gave no token."""

    id: str
    signing_key: NotRequired[str]


class Created(Task):
    """The stored tree: the root, with nested `children`. `ids` maps sent ids to stored ids."""

    ids: dict[str, str]
    warnings: list[str]
    webhook: NotRequired[Webhook]


class Execution(TypedDict):
    """The reply to `execute`.

    `status` is `started`, `already_running`, or the final status of the run; `task` is the final
    tree, with `wait`.
    """

    success: bool
    protocol: str
    task_id: str
    root_task_id: str
    status: str
    message: str
    ids: dict[str, str]
    original_task_id: NotRequired[str]
    warnings: NotRequired[list[str]]
    webhook: NotRequired[Webhook]
    task: NotRequired[Task]


class Event(TypedDict):
    """An event of a run. `seq` is its sequence number: 1, 2, 3 … within the run."""

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
    status: str
    progress: float
    tree_progress: float
    message: str
    result: Any
    error: str | None
    timestamp: str
    protocol: str


class Page(TypedDict):
    tasks: list[ListedTask]
    next_cursor: str | None


class Counts(TypedDict):
    pending: int
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    total: int


class Deleted(TypedDict):
    success: bool
    task_id: str
    deleted_count: int
    children_deleted: int


class Question(TypedDict):
    """The open question of a task.

    `schema` is that of a form. `answer_url` is a page that needs no login; None if the caller may not answer.
    """

    id: str
    text: str
    options: list[str] | None
    schema: Json | None
    assignees: list[str] | None
    asked_at: str
    expires_at: str | None
    answer_url: str | None


class OpenQuestion(Question):
    """An open question with the id of the task that asks it."""

    task_id: str


class OpenQuestions(TypedDict):
    questions: list[OpenQuestion]


class Wait(TypedDict):
    """The wait of a task: for a time, an event, or a run of its own (`child_run`).

    At `until` a wait for a time is over, and one for an event times out. A POST to `hook_url` ends a
    wait for an event, without a login; None if the caller may not do that.
    """

    kind: Literal["time", "event", "run"]
    since: str
    until: str | None
    on_timeout: Literal["fail", "complete"]
    event: str | None
    match: Json | None
    hook_url: str | None


class ChildRun(TypedDict):
    """The newest run that a task has started and waited for. `task_id` is the root of its tree."""

    run_id: str
    task_id: str
    status: Status


class ParentRun(TypedDict):
    """The run whose task `task_id` has started the run of this tree, and waits for it."""

    run_id: str
    task_id: str


class SentEvent(TypedDict):
    """An event that was sent. `woken` is how many waits took it."""

    event: str
    payload: Any
    id: str
    received_at: str
    woken: int


class Answered(TypedDict):
    """The recorded answer to a question."""

    success: bool
    task_id: str
    question_id: str
    question: str
    answer: Any
    by: str
    comment: str | None


class Cancelled(TypedDict):
    """The result of cancelling one task. `failed`: it could not be cancelled."""

    task_id: str
    status: Literal["cancelled", "failed"]
    message: str
    current_status: Status | None
    result: NotRequired[Any]
    token_usage: NotRequired[Json]


class State(TypedDict):
    """The status of a task; `not_found` if it does not exist."""

    task_id: str
    context_id: str | None
    status: str
    progress: float
    error: str | None
    is_running: bool
    started_at: str | None
    updated_at: str | None


class RunningCount(TypedDict):
    """The number of trees that are running or waiting for a worker."""

    count: int


class FlowRef(TypedDict):
    """The flow of which a run was made, and the version. `name` is None if the flow has been deleted."""

    name: str | None
    version: int


class ModelCall(TypedDict):
    """One call of a language model by a task. `agent` and `crew_task` are those of a crew, `step` that of an agent.

    `duration_ms` is None for a call that an executor made itself and reported.
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
    usage: Json | None
    cost_usd: float | None
    finish_reason: str | None
    error: str | None


class Detail(Task):
    """A task with its latest events and relatives.

    `events` has at most 100, `resolved_inputs` are the inputs that the executor receives, `timings`
    are in seconds.
    """

    events: list[Event]
    dependants: list[Task]
    resolved_inputs: Json
    timings: dict[str, float | None]
    question: Question | None
    wait: Wait | None
    child_run: ChildRun | None
    parent_run: ParentRun | None
    flow: FlowRef | None
    model_calls: list[ModelCall]


class Changes(TypedDict, total=False):
    """The fields of a pending task that `update` changes."""

    name: str
    priority: int
    inputs: Json | None
    params: Json | None
    schemas: Json | None
    dependencies: list[str | Json]


class CopyOptions(TypedDict, total=False):
    """Options of `copy`.

    `copy_mode` chooses the task with its descendants and all their dependents (minimal), the whole
    tree (full), or `custom_task_ids` (custom). `children` adds dependencies (minimal) or
    descendants (custom).
    """

    children: bool
    copy_mode: Literal["minimal", "full", "custom"]
    custom_task_ids: list[str]
    reset_fields: list[str]


class Filters(TypedDict, total=False):
    """Filters and order of `list`. With `fields`, tasks have only these."""

    user_id: str
    status: str | list[str]
    run_status: str | list[str]
    tag: str
    text: str
    name: str
    since: str
    until: str
    root_only: bool
    summary: bool
    fields: Sequence[str]
    order: Literal["created_at", "-created_at"]
    page_size: int


class Generated(TypedDict):
    """A generated tree. `root_task_id` is present if it was stored, `run_id` if it runs."""

    tasks: list[Json]
    count: int
    message: str
    root_task_id: NotRequired[str]
    run_id: NotRequired[str]


class UsageRow(TypedDict):
    """Sums of model calls, with the fields by which they are grouped. `model` is None if it is not known, `flow` for runs of no flow.

    `cost_usd` leaves out `unpriced_calls`, whose cost is unknown; None if that is all of them.
    """

    day: NotRequired[str]
    model: NotRequired[str | None]
    executor: NotRequired[str]
    flow: NotRequired[str | None]
    user: NotRequired[str]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: float | None
    unpriced_calls: int


class BudgetLimit(TypedDict):
    """A limit, and what was spent of it. `text` says both."""

    measure: Literal["tokens", "cost_usd", "seconds", "tasks"]
    spent: float
    allowed: float
    text: str


class Usage(TypedDict):
    """The usage of model calls from `since` to `until`, both included, in UTC.

    `today` has the limits that the operator has set for each user and day.
    """

    since: str
    until: str
    by: list[Literal["day", "model", "executor", "flow", "user"]]
    rows: list[UsageRow]
    total: UsageRow
    today: list[BudgetLimit]
