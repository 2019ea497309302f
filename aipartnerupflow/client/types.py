"""What the server answers, as types. The values are plain dicts, so a field that a newer server adds is there too."""

from typing import Any, Literal, NotRequired, TypedDict

Json = dict[str, Any]
Status = Literal["pending", "in_progress", "completed", "failed", "cancelled"]


class Dependency(TypedDict):
    """A task that must be over first; when `required`, completed."""

    id: str
    required: bool


class Task(TypedDict):
    """A task. Times are ISO 8601 with offset, `progress` goes from 0 to 1; a tree's tasks have `children`."""

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
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    children: NotRequired[list["Task"]]


class Webhook(TypedDict):
    """The webhook that was created. `signing_key` signs its events where the request gave no token."""

    id: str
    signing_key: NotRequired[str]


class Created(Task):
    """The root of what was stored, with its `children`. `ids`: sent id → stored id."""

    ids: dict[str, str]
    warnings: list[str]
    webhook: NotRequired[Webhook]


class Execution(TypedDict):
    """`status` is `started`, `already_running`, or how the run ended; `task`, the final tree, comes with `wait`."""

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
    """A step of a run. `seq` grows by one within the run."""

    type: Literal[
        "progress",
        "task_start",
        "task_completed",
        "task_failed",
        "task_cancelled",
        "task_retry",
        "log",
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
    tasks: list[Task]
    next_cursor: str | None


class Counts(TypedDict):
    pending: int
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class Deleted(TypedDict):
    success: bool
    task_id: str
    deleted_count: int
    children_deleted: int


class Question(TypedDict):
    """What a task asks; `answer_url` is a page for a person, for who may answer."""

    id: str
    text: str
    options: list[str] | None
    asked_at: str
    expires_at: str | None
    answer_url: str | None


class Answered(TypedDict):
    """The answer that counts."""

    success: bool
    task_id: str
    question_id: str
    question: str
    answer: Any
    by: str
    comment: str | None


class Cancelled(TypedDict):
    """What became of one task that was to be cancelled; `failed` means that it could not be."""

    task_id: str
    status: Literal["cancelled", "failed"]
    message: str
    current_status: Status | None
    result: NotRequired[Any]
    token_usage: NotRequired[Json]


class State(TypedDict):
    """How a task stands; `status` is `not_found` where there is none."""

    task_id: str
    context_id: str | None
    status: str
    progress: float
    error: str | None
    is_running: bool
    started_at: str | None
    updated_at: str | None


class RunningCount(TypedDict):
    """How many trees run now, or wait for a worker."""

    count: int


class Detail(Task):
    """A task and what surrounds it: its last 100 events, its inputs as its executor gets them."""

    events: list[Event]
    dependants: list[Task]
    resolved_inputs: Json
    timings: dict[str, float | None]
    question: Question | None


class Changes(TypedDict, total=False):
    """What may be changed of a task that is pending."""

    name: str
    priority: int
    inputs: Json | None
    params: Json | None
    schemas: Json | None
    dependencies: list[str | Json]


class CopyOptions(TypedDict, total=False):
    """What becomes part of a copy: what is to run again (minimal), everything (full), or the tasks named (custom)."""

    children: bool
    copy_mode: Literal["minimal", "full", "custom"]
    custom_task_ids: list[str]
    reset_fields: list[str]


class Filters(TypedDict, total=False):
    """Which tasks `list` yields, and in which order."""

    user_id: str
    status: str | list[str]
    name: str
    root_only: bool
    order: Literal["created_at", "-created_at"]
    page_size: int


class Generated(TypedDict):
    """A tree that a model wrote; `root_task_id` where it is stored."""

    tasks: list[Json]
    count: int
    message: str
    root_task_id: NotRequired[str]


class KeyStored(TypedDict):
    """A key that is kept for a provider."""

    success: bool
    user_id: str
    provider: str
    last_four: str


class KeyInfo(TypedDict):
    """What may be known of a key."""

    provider: str
    last_four: str
    created_at: str
    used_at: str | None


class Keys(TypedDict):
    """The keys of a user."""

    has_key: bool
    user_id: str
    provider: str | None
    providers: dict[str, str]
    keys: list[KeyInfo]


class KeyDeleted(TypedDict):
    """`deleted`: there was one."""

    success: bool
    user_id: str
    provider: str
    deleted: bool
