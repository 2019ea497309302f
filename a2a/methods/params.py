"""The parameters of each method."""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import orjson
from django.conf import settings
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from a2a.core.conditions import Condition, NotWith, OnlyWith, Problem, RequiredWith
from a2a.core.parsing import EventId, Params, Text, Texts, texts
from llmkeys.header import MAX_CHARACTERS
from llmkeys.secret_forms import HOST, HOST_CHARACTERS, INPUT, MOST_HOSTS, MOST_USERS, NAME, SHORTEST
from tasks.executors.http.safe_http import HEADER_NAME
from tasks.rules.field_rules import SET_BY_SERVER, TASK_FIELDS
from tasks.rules.tags import MOST as MOST_TAGS
from tasks.rules.tags import TAG
from tasks.rules.task_schedules import LONGEST_TEXT, MOST_NUMBER, WRITTEN
from tasks.services.messages import webhooks
from tasks.services.trees.editing import EDITABLE
from tasks.status import Status

MOST_NAMED = 1_000
NEW_TASK = {"$ref": "#/components/schemas/NewTask"}
NEW_TASKS = {"type": "array", "items": NEW_TASK, "minItems": 1}
TASK_TO_STORE = {"$ref": "#/components/schemas/TaskToStore"}
TASKS_TO_STORE = {"type": "array", "items": TASK_TO_STORE, "minItems": 1}
NewTasks = Annotated[Any, Meta(extra_json_schema={"anyOf": [NEW_TASK, NEW_TASKS]})]
"""Tasks in a request. The rules for tasks validate them; this is their published schema."""
NOT_A_COPY: Problem = (
    "origin_type",
    "must be 'copy' or absent: every copy is a tree of its own, which can be changed and run. To keep results, use "
    "copy_mode 'full'",
)
SAYS_NOTHING: Mapping[str, Any] = MappingProxyType({"recursive": True, "link_task_ids": None, "reset_fields": {}})
"""Parameters that the predecessor's command sends with each clone, with the values that ask for what a copy is."""
Tag = Annotated[str, Meta(extra_json_schema={"pattern": f"^{TAG.pattern}$"})]
Tags = Annotated[list[Tag], Meta(extra_json_schema={"maxItems": MOST_TAGS})]
RunStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
ScheduleType = Literal["once", "interval", "cron", "daily", "weekly", "monthly"]
Expression = Annotated[str, Meta(max_length=LONGEST_TEXT)]
RESUMES = "resume with the task_id of the reply; this request would start another run"


class Get(Params, frozen=True, kw_only=True):
    """tasks.get"""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text


class Tree(Params, frozen=True, kw_only=True):
    """tasks.tree"""

    ALIASES = MappingProxyType({"id": "task_id", "root_id": "task_id"})
    task_id: Text


class Children(Params, frozen=True, kw_only=True):
    """tasks.children"""

    ALIASES = MappingProxyType({"id": "task_id", "parent_id": "task_id"})
    task_id: Text


class Count(Params, frozen=True, kw_only=True):
    """tasks.count"""

    user_id: Text | None = None
    root_only: bool = False
    statuses: list[Status] | None = None
    """Count only tasks that have one of these; None counts all."""


class Update(Params, frozen=True, kw_only=True):
    """tasks.update: the fields to change. The rules for tasks validate their values."""

    ALIASES = MappingProxyType({"id": "task_id"})
    NULLABLE = frozenset({"params", "schemas", *WRITTEN})
    HINTS = MappingProxyType(
        dict.fromkeys(("parent_id", "user_id"), "cannot be changed: a task keeps its parent and owner")
        | dict.fromkeys(SET_BY_SERVER, "read only: set by the server")
    )
    task_id: Text
    name: Any | UnsetType = UNSET
    priority: Any | UnsetType = UNSET
    inputs: Any | UnsetType = UNSET
    params: Any | UnsetType = UNSET
    schemas: Any | UnsetType = UNSET
    dependencies: Any | UnsetType = UNSET
    schedule_type: ScheduleType | Literal[""] | UnsetType | None = UNSET
    schedule_expression: Expression | UnsetType | None = UNSET
    """The timing, in the format of the type: `docs/reference/tasks.md`. Type and expression that are empty delete the schedule."""
    schedule_enabled: bool | UnsetType | None = UNSET
    schedule_start_at: Expression | UnsetType | None = UNSET
    schedule_end_at: Expression | UnsetType | None = UNSET
    max_runs: Annotated[int, Meta(ge=1, le=MOST_NUMBER)] | UnsetType | None = UNSET

    @property
    def changes(self) -> dict[str, Any]:
        return {name: value for name in EDITABLE if (value := getattr(self, name)) is not UNSET}

    @property
    def schedule(self) -> dict[str, Any]:
        """Return the given fields of the schedule."""
        return {name: value for name in WRITTEN if (value := getattr(self, name)) is not UNSET}


class Delete(Params, frozen=True, kw_only=True):
    """tasks.delete"""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    force: bool = False


class Copy(Params, frozen=True, kw_only=True):
    """tasks.copy"""

    CONDITIONS = (
        RequiredWith("custom_task_ids", "copy_mode", "custom"),
        OnlyWith("custom_task_ids", "copy_mode", "custom"),
    )
    ALIASES = MappingProxyType({"id": "task_id", "custom_include_children": "children"})
    task_id: Text
    children: bool = False
    copy_mode: Literal["minimal", "full", "custom"] = "minimal"
    custom_task_ids: Texts | None = None
    reset_fields: Texts | None = None
    save: bool = True
    origin_type: Annotated[str, Meta(extra_json_schema={"enum": ["copy"]})] | None = None
    """A parameter of the predecessor, which knew other kinds of copies."""

    def contradictions(self) -> list[Problem]:
        return [*super().contradictions(), *([] if self.origin_type in (None, "copy") else [NOT_A_COPY])]


class Clone(Copy, frozen=True, kw_only=True):
    """tasks.clone"""

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        named = super().named(value).items()
        return {name: given for name, given in named if name not in SAYS_NOTHING or given != SAYS_NOTHING[name]}


class Named(Params, frozen=True, kw_only=True):
    """Base class for methods on many tasks, named by ids or by the contexts of their runs."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_ids: Texts | None = None
    task_id: Text | None = None
    context_ids: Texts | None = None

    @property
    def ids(self) -> list[str]:
        one = [] if self.task_id is None else [self.task_id]
        return list(dict.fromkeys([*texts(self.task_ids), *one]))

    def contradictions(self) -> list[Problem]:
        if self.task_ids is None and self.task_id is None and self.context_ids is None:
            return [("task_ids", "required, or task_id, or context_ids")]
        if len(self.ids) + len(texts(self.context_ids)) > MOST_NAMED:
            return [("task_ids", f"at most {MOST_NAMED:,} at once")]
        return []


class Cancel(Named, frozen=True, kw_only=True):
    """tasks.cancel"""

    force: bool = False
    error_message: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None


class Answer(Params, frozen=True, kw_only=True):
    """tasks.answer"""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    answer: str | bool | int | float | list[Any] | dict[str, Any]  # any JSON value but null
    comment: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None


class OpenQuestions(Params, frozen=True, kw_only=True):
    """questions.list"""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class SendEvent(Params, frozen=True, kw_only=True):
    """events.send"""

    event: Text
    payload: Any = None
    id: Text | None = None
    """The id by which the event is known when it is sent again; default: a new one."""

    def contradictions(self) -> list[Problem]:
        most = settings.APFLOW.limits.event_bytes
        size = len(orjson.dumps(self.payload))
        too_long = ("payload", f"has {size:,} bytes as JSON, and at most {most:,} are allowed (limits.event_bytes)")
        return [*super().contradictions(), *([too_long] if size > most else [])]


class RunningStatus(Named, frozen=True, kw_only=True):
    """tasks.running.status"""


class RunningList(Params, frozen=True, kw_only=True):
    """tasks.running.list"""

    user_id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class RunningCount(Params, frozen=True, kw_only=True):
    """tasks.running.count"""

    user_id: Text | None = None


Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", extra_json_schema={"format": "date"})]
Group = Literal["day", "model", "executor", "flow", "user"]


class GetUsage(Params, frozen=True, kw_only=True):
    """usage.get"""

    since: Day | None = None
    """The first day, in UTC; by default 29 days before the last one."""
    until: Day | None = None
    """The last day; by default today."""
    by: list[Group] | Group = "day"
    """The groups that each row sums up; an empty list for only the total."""
    model: Text | None = None
    executor: Text | None = None
    flow: Text | None = None
    user_id: Text | None = None

    @property
    def groups(self) -> list[str]:
        return [self.by] if isinstance(self.by, str) else list(dict.fromkeys(self.by))

    @property
    def first(self) -> date | None:
        return None if self.since is None else date.fromisoformat(self.since)

    @property
    def last(self) -> date | None:
        return None if self.until is None else date.fromisoformat(self.until)

    def contradictions(self) -> list[Problem]:
        problems = [*super().contradictions(), *_no_day("since", self.since), *_no_day("until", self.until)]
        if not problems and self.first and self.last and self.first > self.last:
            problems.append(("since", "must not be after 'until'"))
        return problems


def _no_day(name: str, text: str | None) -> list[Problem]:
    try:
        date.fromisoformat(text or "2000-01-01")
    except ValueError:
        return [(name, f"'{text}' is no day of the calendar")]
    return []


class Nothing(Params, frozen=True, kw_only=True):
    """Methods without parameters."""


class SetLLMKey(Params, frozen=True, kw_only=True):
    """config.llm_key.set"""

    api_key: Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
    provider: Text | None = None
    """The provider of the key; None derives it from the key's form, where that is unmistakable."""
    user_id: Text | None = None


class GetLLMKey(Params, frozen=True, kw_only=True):
    """config.llm_key.get"""

    provider: Text | None = None
    user_id: Text | None = None


class DeleteLLMKey(Params, frozen=True, kw_only=True):
    """config.llm_key.delete"""

    provider: Text
    user_id: Text | None = None


SecretName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{NAME.pattern}$"})]
SecretValue = Annotated[str, Meta(extra_json_schema={"minLength": SHORTEST, "pattern": r"^\s*\S[\s\S]{6,}\S\s*$"})]
AllowedHost = Annotated[str, Meta(extra_json_schema={"pattern": f"^({HOST.pattern})$", "maxLength": HOST_CHARACTERS})]

AllowedInput = Annotated[str, Meta(extra_json_schema={"pattern": f"^{INPUT.pattern}$"})]


class SetSecret(Params, frozen=True, kw_only=True):
    """secrets.set"""

    CONDITIONS = (OnlyWith("users", "scope", "shared"),)
    name: SecretName
    value: SecretValue
    scope: Literal["own", "shared"] = "own"
    allow_hosts: Annotated[list[AllowedHost], Meta(max_length=MOST_HOSTS)] | None = None
    """The hosts to which it may be sent; an empty list for any. None keeps those of the secret that is replaced."""
    allow_in: Annotated[list[AllowedInput], Meta(max_length=MOST_HOSTS)] | None = None
    """The inputs of tasks in which it may be used; an empty list for any. Without it, a secret with hosts may be used in `auth` and `headers`."""
    users: Annotated[list[Text], Meta(max_length=MOST_USERS)] | None = None
    """The users of a shared secret; an empty list for all. None keeps those of the secret that is replaced."""


class DeleteSecret(Params, frozen=True, kw_only=True):
    """secrets.delete"""

    name: SecretName
    scope: Literal["own", "shared"] = "own"


class InitExamples(Params, frozen=True, kw_only=True):
    """examples.init"""

    force: bool = False


HeaderText = Annotated[
    str,
    Meta(extra_json_schema={"pattern": "^[\\t -~]+$", "minLength": 1, "maxLength": webhooks.MAX_SECRET_CHARACTERS}),
]
HEADERS = {"maxProperties": webhooks.MAX_HEADERS, "propertyNames": {"pattern": f"^{HEADER_NAME.pattern}$"}}


HookUrl = Annotated[str, Meta(extra_json_schema={"pattern": r"^https?://[^\s/?#@\\]+([/?][^\s\\#]*)?$"})]


class WebhookConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The webhook for the events of the run.

    `token` signs them; by default it is generated and returned.
    """

    url: HookUrl
    method: Literal["POST", "PUT", "PATCH"] | None = None
    headers: Annotated[dict[str, HeaderText], Meta(extra_json_schema=HEADERS)] | None = None
    token: HeaderText | None = None

    @property
    def problems(self) -> list[Problem]:
        found = webhooks.problems(url=self.url, token=self.token, headers=self.headers)
        return [(f"webhook_config.{field}", reason) for field, reason in found]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `webhooks.add_webhook`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Create(Params, frozen=True, kw_only=True):
    """tasks.create: an object with `tasks`, or the list of tasks, or one task."""

    CONDITIONS = (
        OnlyWith("webhook_config", "execute", reason="without a run there are no events"),
        OnlyWith("tags", "execute", reason="they belong to a run"),
    )
    tasks: Annotated[Any, Meta(extra_json_schema={"anyOf": [TASK_TO_STORE, TASKS_TO_STORE]})]
    id_conflict: Literal["rename", "error"] = "rename"
    execute: bool = False
    tags: Tags | None = None
    """Words by which `runs.list` finds the run."""
    webhook_config: WebhookConfig | None = None

    def contradictions(self) -> list[Problem]:
        return super().contradictions() or (self.webhook_config.problems if self.webhook_config else [])

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        is_one_task = isinstance(value, dict) and "tasks" not in value and value.keys() & TASK_FIELDS.keys()
        return {"tasks": value} if is_one_task or isinstance(value, list) else super().named(value)


class Starts(Params, frozen=True, kw_only=True):
    """Base class for methods that start a run: what to return, and what the run gets besides its tree."""

    CONDITIONS: ClassVar[tuple[Condition, ...]] = (
        NotWith("wait", "use_streaming", "cannot be combined with use_streaming: choose one"),
        OnlyWith("last_event_id", "use_streaming"),
    )
    use_streaming: bool = False
    tags: Tags | None = None
    """Words by which `runs.list` finds the run; None: those of the run before it, if there is one."""
    use_demo: bool = False
    """Each executor returns its example result, and nothing is called."""
    last_event_id: int | str | None = None
    """The id of an event, or its number: browsers store event ids as strings."""
    wait: bool = False
    wait_timeout_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30
    webhook_config: WebhookConfig | None = None

    @property
    def after(self) -> EventId | None:
        """The last event that a resuming client has received, or None."""
        return None if self.last_event_id is None else EventId.parse(self.last_event_id)

    def contradictions(self) -> list[Problem]:
        return super().contradictions() + (self.webhook_config.problems if self.webhook_config else [])


class TakesInputs(Starts, frozen=True, kw_only=True):
    """Base class for methods that start a further run, with inputs merged over those of the run before."""

    run_inputs: dict[str, Any] | None = None
    """Values for `{{run.inputs.topic}}` in the tree, for this run. Inputs of the run before it with other names stay."""
    replace_inputs: bool = False
    """Whether the run has none of the inputs of the run before it."""


class Execute(TakesInputs, frozen=True, kw_only=True):
    """tasks.execute: new `tasks`, or the `task_id` of a stored one."""

    ALIASES = MappingProxyType({"id": "task_id"})
    CONDITIONS = (
        NotWith("task_id", "tasks", "cannot be combined with tasks: send one of them"),
        NotWith("copy_execution", "tasks", "only with task_id: new tasks need no copy"),
        OnlyWith("copy_children", "copy_execution"),
        *Starts.CONDITIONS,
        NotWith("last_event_id", "tasks", RESUMES),
        NotWith("last_event_id", "copy_execution", RESUMES),
    )
    tasks: NewTasks | UnsetType = UNSET
    task_id: Text | None = None
    id_conflict: Literal["rename", "error"] = "rename"
    copy_execution: bool = False
    copy_children: bool = False

    def contradictions(self) -> list[Problem]:
        is_missing = self.tasks is UNSET and self.task_id is None
        missing = [("tasks", "required, or task_id for a stored task")]
        return [*(missing if is_missing else []), *super().contradictions()]


class Generate(Params, frozen=True, kw_only=True):
    """tasks.generate"""

    ALIASES = MappingProxyType({"llm_model": "model"})
    requirement: Annotated[str, Meta(min_length=1, max_length=20_000)]
    model: Text | None = None
    save: bool = False
    run: bool = False
    """Whether the tree is stored and run at once."""
