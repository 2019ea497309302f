"""What each method answers on `/tasks` and `/system`, as types: the published schemas are made from them."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, json

from a2a.core.parsing import Text
from tasks.rules.field_rules import MONTH_SECONDS
from tasks.rules.strict_json import Json
from tasks.status import Status

Seconds = Annotated[float, Meta(ge=0, le=MONTH_SECONDS)]
_TEXT: Final = json.schema(Text)
_REFERENCE: Final = {
    "type": "object",
    "properties": {"id": _TEXT, "name": _TEXT, "required": {"type": "boolean", "default": True}},
    "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
    "additionalProperties": False,
}
NewDependency = Annotated[Any, Meta(extra_json_schema={"anyOf": [_TEXT, _REFERENCE]})]


class Response(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The base of all answers. A field with a default is left out where it has nothing to say."""


class Dependency(Response, frozen=True, kw_only=True):
    """A task that must be over first; when `required`, completed."""

    id: str
    required: bool


class TokenUsage(Struct, frozen=True, kw_only=True):
    """What a task cost at a model."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_usd: float | None = None


class Task(Response, frozen=True, kw_only=True):
    """A task without its children. Times are ISO 8601 in UTC, with the offset."""

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
    token_usage: TokenUsage | None
    has_children: bool
    has_copy: bool
    original_task_id: str | None
    origin_type: Literal["create", "copy"]
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None


class Tree(Task, frozen=True, kw_only=True):
    """A task with all that is below it."""

    children: "list[Tree]"


class Webhook(Response, frozen=True, kw_only=True):
    """The webhook that was asked for. `signing_key` is what its events are signed with, where the request gave no token."""

    id: str
    signing_key: str | UnsetType = UNSET


class StoredTree(Tree, frozen=True, kw_only=True):
    """A new tree. `ids` maps each id that was sent, or copied, to the stored one."""

    ids: dict[str, str]
    warnings: list[str]
    webhook: Webhook | UnsetType = UNSET


class Execution(Response, frozen=True, kw_only=True):
    """A run that was asked for. `status` is `started`, `already_running`, or how the run ended; `task` is the tree then."""

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
    """Something that happened in a run. `seq` grows by one within it; `final` comes once, when the tree is over."""

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
    status: Status
    progress: float
    tree_progress: float
    message: str
    result: Any
    error: str | None
    timestamp: str
    protocol: Literal["jsonrpc", "a2a"]


class Timings(Response, frozen=True, kw_only=True):
    """Seconds from the start of the run to that of the task, and from there to its end or until now."""

    queued_seconds: float | None
    run_seconds: float | None


class Question(Response, frozen=True, kw_only=True):
    """What a task asks. `answer_url` is for a person, without a login; for those who may answer."""

    id: str
    text: str
    options: list[str] | None
    asked_at: str
    expires_at: str | None
    answer_url: str | None


class Answered(Response, frozen=True, kw_only=True):
    """The answer that counts."""

    success: bool
    task_id: str
    question_id: str
    question: str
    answer: Any
    by: str
    comment: str | None


class Detail(Task, frozen=True, kw_only=True):
    """A task and what surrounds it: at most 100 events, the inputs as its executor gets them, and what it asks just now."""

    events: list[Event]
    children: list[Task]
    dependants: list[Task]
    resolved_inputs: Json
    timings: Timings
    question: Question | None


class Page(Response, frozen=True, kw_only=True):
    """A page of tasks; without `next_cursor` it is the last."""

    tasks: list[Task]
    next_cursor: str | None


class Counts(Response, frozen=True, kw_only=True):
    """How many tasks have each status."""

    pending: int
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class Deletion(Response, frozen=True, kw_only=True):
    """How many tasks were deleted, and how many of these were below the named one."""

    success: bool
    task_id: str
    deleted_count: int
    children_deleted: int


class Cancellation(Response, frozen=True, kw_only=True):
    """What became of the request to stop one task."""

    task_id: str
    status: Literal["cancelled", "failed"]
    message: str
    current_status: Status | None
    result: Any = UNSET
    token_usage: TokenUsage | UnsetType = UNSET


# --- a task as it is sent: `tasks.rules.field_rules` checks it, and a test that both say the same ---


class Retry(Response, frozen=True, kw_only=True):
    """How often and when a task is tried again."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    backoff_seconds: Seconds | UnsetType = UNSET
    backoff_factor: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    max_backoff_seconds: Seconds | UnsetType = UNSET


class TaskParams(Struct, frozen=True, kw_only=True):
    """Which executor, how long and how often; and what that executor is set by."""

    executor_id: Text | UnsetType = UNSET
    timeout_seconds: Annotated[float, Meta(gt=0, le=MONTH_SECONDS)] | UnsetType = UNSET
    retry: Retry | UnsetType = UNSET


class TaskSchemas(Struct, frozen=True, kw_only=True):
    """`method` is the id of the executor; `input_schema` is checked before it starts."""

    method: Text | UnsetType = UNSET
    input_schema: Json | UnsetType = UNSET


class NewTask(Response, frozen=True, kw_only=True):
    """A task as `tasks.create` takes it. `name` is required; a dependency is an id, or an object that has an id or a name."""

    name: Text
    id: Text | UnsetType = UNSET
    parent_id: Text | UnsetType | None = UNSET
    user_id: Text | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=3)] | UnsetType = UNSET
    dependencies: list[NewDependency] | UnsetType = UNSET
    inputs: Json | UnsetType = UNSET
    schemas: TaskSchemas | UnsetType | None = UNSET
    params: TaskParams | UnsetType | None = UNSET


class Standing(Response, frozen=True, kw_only=True):
    """Where a task stands; a root stands for its tree."""

    task_id: str
    context_id: str | None
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled", "not_found"]
    progress: float
    error: str | None
    is_running: bool
    started_at: str | None
    updated_at: str | None


class RunningCount(Response, frozen=True, kw_only=True):
    """How many trees run now, or wait for a worker."""

    count: int


class Check(Response, frozen=True, kw_only=True):
    """One thing that the server needs; `fix` is what to do where it is not `ok`."""

    ok: bool
    message: str
    fix: str | None


class Health(Response, frozen=True, kw_only=True):
    """Whether the server can do its work now."""

    status: Literal["ok", "degraded"]
    version: str
    ready: bool
    checks: dict[str, Check]


class Executor(Response, frozen=True, kw_only=True):
    """What an executor declares. `extra` is the extra to install where it is not `enabled`."""

    id: str
    name: str
    description: str
    tags: list[str]
    input_schema: Json
    result_schema: Json | None
    idempotent: bool
    cancelable: bool
    extra: str | None
    enabled: bool
    example: Any


class LLMKeyStored(Response, frozen=True, kw_only=True):
    """A key is kept. `last_four` is empty for a short one."""

    success: bool
    user_id: str
    provider: str
    last_four: str


class LLMKeyInfo(Response, frozen=True, kw_only=True):
    """What may be known of a key."""

    provider: str
    last_four: str
    created_at: str
    used_at: str | None


class LLMKeys(Response, frozen=True, kw_only=True):
    """The keys of a user, or the one for a provider. `providers` has the last four characters of all of them."""

    has_key: bool
    user_id: str
    provider: str | None
    providers: dict[str, str]
    keys: list[LLMKeyInfo]


class LLMKeyDeleted(Response, frozen=True, kw_only=True):
    """`deleted`: there was one."""

    success: bool
    user_id: str
    provider: str
    deleted: bool


class Generated(Response, frozen=True, kw_only=True):
    """A tree that a model wrote. With `save` it is stored under `root_task_id`."""

    tasks: list[NewTask]
    count: int
    message: str
    root_task_id: str | UnsetType = UNSET


class Examples(Response, frozen=True, kw_only=True):
    """The roots of the examples that were stored."""

    root_task_ids: list[str]
    count: int
