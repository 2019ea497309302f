"""The schema of a task in a request. `tasks.rules.field_rules` validates tasks; a test compares both."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field, json

from a2a.core.parsing import Text
from a2a.methods.method import Response
from tasks.rules.budgets import MEASURES
from tasks.rules.budgets import MOST as MOST_OF_BUDGET
from tasks.rules.field_rules import MONTH_SECONDS, MOST_CHECKS, MOST_RETRIES_OF_CHECK
from tasks.rules.maps import MOST_ITEMS
from tasks.rules.rounds import MOST_ROUNDS, MOST_SECONDS
from tasks.rules.spawns import MOST_NAMES, MOST_TASKS
from tasks.rules.strict_json import Json
from tasks.rules.task_schedules import LONGEST_TEXT, MOST_NUMBER

Seconds = Annotated[float, Meta(ge=0, le=MONTH_SECONDS)]
_TEXT: Final = json.schema(Text)
_REFERENCE: Final = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "name": _TEXT,
        "required": {"type": "boolean", "default": True},
        "on_skip": {"enum": ["run", "skip"], "default": "skip"},
        "as": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,255}$"},
        "type": {"const": "result"},
    },
    "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
    "additionalProperties": False,
}


def _condition(about: Json, operators: Json, **value: Json) -> Json:
    """Return the schema of a condition about one result."""
    pointer = {"type": "string", "anyOf": [{"const": ""}, {"pattern": "^/"}]}
    properties = {**about, "path": pointer, "op": operators, **value}
    needed = [*about, "op", *value]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _conditions(about: Json) -> list[Json]:
    """Return the schemas of conditions and of those made of them. `about`: the property that names the result."""
    simple = [
        _condition(about, {"enum": ["eq", "ne", "lt", "le", "gt", "ge", "contains"]}, value={}),
        _condition(about, {"const": "in"}, value={"type": "array"}),
        _condition(about, {"enum": ["exists", "empty"]}),
    ]
    lists = {"type": "array", "items": {"anyOf": simple}, "maxItems": 40}
    combined = [
        {"type": "object", "properties": {name: part}, "required": [name], "additionalProperties": False}
        for name, part in (("all", lists), ("any", lists), ("not", {"anyOf": simple}))
    ]
    return [*simple, *combined]


_CONDITIONS: Final = _conditions({"task": {"type": "string"}})
_CONDITIONS_ABOUT_ITSELF: Final = _conditions({})
NewDependency = Annotated[Any, Meta(extra_json_schema={"anyOf": [_TEXT, _REFERENCE]})]


class Retry(Response, frozen=True, kw_only=True):
    """The number and the times of further attempts at a failed task."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    backoff_seconds: Seconds | UnsetType = UNSET
    backoff_factor: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    max_backoff_seconds: Seconds | UnsetType = UNSET


class Resources(Response, frozen=True, kw_only=True):
    """The resources that a task reserves in the pools `process` and `ray`."""

    cpus: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET
    gpus: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET
    memory_mb: Annotated[int, Meta(ge=16, le=2**30)] | UnsetType = UNSET


class ItemsOf(Response, frozen=True, kw_only=True):
    """A list in the result of a dependency. `path` is a JSON Pointer; without it, the whole result is the list."""

    task: str
    path: Annotated[str, Meta(pattern="^(/|$)")] | UnsetType = UNSET


class ForEach(Response, frozen=True, kw_only=True):
    """The children of the task run once for each item. `as` is the name of the item in places."""

    items: list[Any] | ItemsOf
    as_: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,255}$")] | UnsetType = field(default=UNSET, name="as")
    max_parallel: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | UnsetType = UNSET
    max_items: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | UnsetType = UNSET
    on_failure: Literal["fail", "collect"] | UnsetType = UNSET


class SpawnParams(Response, frozen=True, kw_only=True):
    """The tasks in the result of the task are added to its tree. They may use these executors and secrets."""

    path: Annotated[str, Meta(pattern="^(/|$)")] | UnsetType = UNSET
    join: bool | UnsetType = UNSET
    max_tasks: Annotated[int, Meta(ge=1, le=MOST_TASKS)] | UnsetType = UNSET
    executors: Annotated[list[Text], Meta(max_length=MOST_NAMES)] | UnsetType = UNSET
    secrets: Annotated[list[Text], Meta(max_length=MOST_NAMES)] | UnsetType = UNSET


class Repeat(Response, frozen=True, kw_only=True):
    """The task, or the children of the group, runs again until `until` is true of the result."""

    until: Annotated[Json, Meta(extra_json_schema={"anyOf": _CONDITIONS_ABOUT_ITSELF})]
    max: Annotated[int, Meta(ge=1, le=MOST_ROUNDS)] | UnsetType = UNSET
    delay_seconds: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] | UnsetType = UNSET
    first: Any = None
    on_max: Literal["fail", "complete"] | UnsetType = UNSET


ANY_LIMIT: Final = {"anyOf": [{"required": [measure]} for measure in MEASURES]}


class Budget(Response, frozen=True, kw_only=True):
    """The limits of a run of the tree. At least one is required; only the root has a budget."""

    tokens: Annotated[int, Meta(ge=1, le=MOST_OF_BUDGET)] | UnsetType = UNSET
    cost_usd: Annotated[float, Meta(gt=0, le=MOST_OF_BUDGET)] | UnsetType = UNSET
    seconds: Annotated[float, Meta(gt=0, le=MOST_OF_BUDGET)] | UnsetType = UNSET
    tasks: Annotated[int, Meta(ge=1, le=MOST_OF_BUDGET)] | UnsetType = UNSET
    on_exceeded: Literal["fail", "ask"] | UnsetType = UNSET


class Check(Response, frozen=True, kw_only=True):
    """A check of the input, the output or the calls of a task. `with` is the name of a check, a function, an executor or a flow
    (`flow:NAME`), or an object with one of schema, expression, length, addresses and judge.
    """

    on: Literal["input", "output", "tool_arguments", "tool_result"]
    with_: Text | Json = field(name="with")
    then: Literal["fail", "ask", "redact", "retry"] | UnsetType = UNSET
    name: Text | UnsetType = UNSET
    retries: Annotated[int, Meta(ge=1, le=MOST_RETRIES_OF_CHECK)] | UnsetType = UNSET
    assignees: list[Text] | UnsetType = UNSET
    timeout_seconds: Annotated[float, Meta(gt=0, le=MONTH_SECONDS)] | UnsetType = UNSET


class TaskParams(Struct, frozen=True, kw_only=True):
    """The executor, the timeout, the retries, where it runs, and parameters of the executor.

    `keep`, of a root: its tree is not deleted by `retention`. `when`: the condition without which the task is
    skipped; conditions may also be deeper inside each other. `for_each`: the task is a map.
    `spawn`: the task adds tasks to its tree.
    `repeat`: it runs in rounds. `budget`, of a root: what a run may use. `checks`: what is checked of its input and output.
    """

    executor_id: Text | UnsetType = UNSET
    timeout_seconds: Annotated[float, Meta(gt=0, le=MONTH_SECONDS)] | UnsetType = UNSET
    retry: Retry | UnsetType = UNSET
    pool: Literal["loop", "thread", "process", "ray"] | UnsetType = UNSET
    resources: Resources | UnsetType = UNSET
    keep: bool | UnsetType = UNSET
    allow_failure: bool | UnsetType = UNSET
    when: Annotated[Json, Meta(extra_json_schema={"anyOf": _CONDITIONS})] | UnsetType = UNSET
    for_each: ForEach | UnsetType = UNSET
    spawn: SpawnParams | UnsetType = UNSET
    repeat: Repeat | UnsetType = UNSET
    budget: Annotated[Budget, Meta(extra_json_schema=ANY_LIMIT)] | UnsetType = UNSET
    checks: Annotated[list[Check], Meta(min_length=1, max_length=MOST_CHECKS)] | UnsetType = UNSET


class TaskSchemas(Struct, frozen=True, kw_only=True):
    """`method` is the id of the executor; inputs must match `input_schema` before it starts."""

    method: Text | UnsetType = UNSET
    input_schema: Json | UnsetType = UNSET


Empty = Literal[""] | UnsetType | None
ScheduleText = Annotated[str, Meta(max_length=LONGEST_TEXT)]


class _Fields(Response, frozen=True, kw_only=True):
    name: Text
    id: Text | UnsetType | None = UNSET
    parent_id: Text | UnsetType | None = UNSET
    user_id: Text | UnsetType | None = UNSET
    priority: Annotated[int, Meta(ge=0, le=3)] | UnsetType | None = UNSET
    dependencies: list[NewDependency] | UnsetType | None = UNSET
    inputs: Json | UnsetType | None = UNSET
    schemas: TaskSchemas | UnsetType | None = UNSET
    params: TaskParams | UnsetType | None = UNSET
    status: Literal["pending"] | UnsetType | None = UNSET
    progress: Literal[0] | UnsetType | None = UNSET
    result: UnsetType | None = UNSET
    error: UnsetType | None = UNSET
    next_run_at: Empty = UNSET
    last_run_at: Empty = UNSET
    run_count: Literal[0] | UnsetType | None = UNSET


class NewTask(_Fields, frozen=True, kw_only=True):
    """A task in a request. A dependency is an id, or an object with an id or a name. Null means absent.

    The server sets `status`, `progress`, `result`, `error` and what is counted; it accepts what each new task has.
    """

    schedule_type: Empty = UNSET
    schedule_expression: Empty = UNSET
    schedule_enabled: Annotated[bool, Meta(extra_json_schema={"const": False})] | UnsetType | None = UNSET
    schedule_start_at: Empty = UNSET
    schedule_end_at: Empty = UNSET
    max_runs: Empty = UNSET


class TaskToStore(_Fields, frozen=True, kw_only=True):
    """A task in `tasks.create`. A root may have a schedule; then it has both a type and an expression."""

    schedule_type: Literal["once", "interval", "cron", "daily", "weekly", "monthly", ""] | UnsetType | None = UNSET
    schedule_expression: ScheduleText | UnsetType | None = UNSET
    schedule_enabled: bool | UnsetType | None = UNSET
    schedule_start_at: ScheduleText | UnsetType | None = UNSET
    schedule_end_at: ScheduleText | UnsetType | None = UNSET
    max_runs: Annotated[int, Meta(ge=1, le=MOST_NUMBER)] | UnsetType | None = UNSET
