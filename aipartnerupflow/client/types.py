"""Types of the server's replies. `make reference` writes them.

The values are plain dicts, so fields of a newer server are present too.
"""

from typing import Any, Literal, NotRequired, TypedDict

Json = dict[str, Any]
Status = Literal["pending", "in_progress", "completed", "failed", "cancelled", "skipped"]
RunStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]


class AuditEntry(TypedDict):
    """An action of `user_id` on `target`, from `address`. `user_id` and `target` are empty if unknown.

    `details` depend on the action; they never contain a password, key or secret.
    """

    id: str
    at: str
    action: str
    user_id: str
    address: str
    target: str
    details: Json


class AuditEntries(TypedDict):
    """A page of the audit log, the newest entry first. `next_cursor` is None on the last page."""

    entries: list[AuditEntry]
    next_cursor: str | None


class CacheCleared(TypedDict):
    """The number of results that were removed."""

    removed: int


class CachedOfExecutor(TypedDict):
    """The results in the cache of the tasks of an executor: how many, their `bytes`, and when the oldest and the newest was stored."""

    executor: str
    results: int
    bytes: int
    oldest: str
    newest: str


class CachedResults(TypedDict):
    """The results of the caller's tasks that are in the cache, by executor, the largest first; for administrators those of all users."""

    results: int
    bytes: int
    executors: list[CachedOfExecutor]


class DatasetInfo(TypedDict):
    """A version of a data set, without its rows. `flow` is None if they are the inputs of no flow in particular."""

    name: str
    user_id: str
    flow: str | None
    version: int
    newest_version: int
    count: int
    created_at: str


class SavedDataset(DatasetInfo):
    """A saved version. `is_new` is false if the newest version has the same rows. `replaced` is how many rows had the inputs of another one."""

    is_new: bool
    replaced: int


class AddedRuns(SavedDataset):
    """A saved version. `added` of so many `runs` made a new row; the others have the inputs of a row that was there, which stays, or of a newer run."""

    runs: int
    added: int


class DatasetDeleted(TypedDict):
    """The number of versions that were deleted with the data set."""

    success: bool
    name: str
    versions_deleted: int


class RowSource(TypedDict):
    """The run from which a row was made. It may have been deleted since."""

    run_id: str


class DatasetRow(TypedDict):
    """A case: the inputs of a run, what is expected of it (any JSON), tags, and the run that it was made from."""

    inputs: Json
    expected: NotRequired[Any]
    tags: NotRequired[list[str]]
    source: NotRequired[RowSource]


class DatasetRows(DatasetInfo):
    """A version of a data set. It never changes."""

    rows: list[DatasetRow]


class Datasets(TypedDict):
    """The newest versions of a page of data sets, by name. `next_cursor` is None on the last page."""

    datasets: list[DatasetInfo]
    next_cursor: str | None


Evaluator = TypedDict(
    "Evaluator", {"name": str, "with": Literal["exact"] | Json, "better": NotRequired[Literal["higher", "lower"]]}
)
"""A score that each result gets: the name of it, and how it is found."""


class Experiment(TypedDict):
    """An experiment. Its id is that of the root of its tree, and `status` that of the latest run of it. `split` is the tag of the rows that were used; None if all were."""

    id: str
    user_id: str
    dataset: str
    dataset_version: int
    flow: str
    versions: list[int | None]
    names: list[str]
    evaluators: list[Evaluator]
    repeats: int
    cases: int
    split: str | None
    status: RunStatus | None
    created_at: str


class Estimate(TypedDict):
    """A mean over `cases`, and the ends of its 95 % confidence interval; both are None with fewer than two cases."""

    mean: float
    low: float | None
    high: float | None
    cases: int


class VariantScore(TypedDict):
    """The scores of one evaluator: the mean by case (None without a number), how many runs were scored, and were not although they are over, and how often each category occurs."""

    estimate: Estimate | None
    scored: int
    not_scored: int
    categories: dict[str, int]


class Variant(TypedDict):
    """A variant: how many of its runs were evaluated (`completed`), failed or are unfinished, what they used, and their mean duration.

    `changes` are the inputs that it changes, of the `task` or of those that run a language model. `cost_usd` is None if no call has a known
    price.
    """

    name: str
    version: int | None
    changes: Json
    task: NotRequired[str]
    completed: int
    failed: int
    unfinished: int
    total_tokens: int
    cost_usd: float | None
    seconds: float | None
    scores: dict[str, VariantScore]


class Difference(TypedDict):
    """A further `variant`, which is named, minus the first one in a score, by case. `text` says it in words."""

    evaluator: str
    variant: str
    estimate: Estimate | None
    text: str


class Slice(TypedDict):
    """The cases with a tag: their mean score by evaluator for each variant, in their order; None without a number."""

    tag: str
    cases: int
    means: dict[str, list[float | None]]


class Score(TypedDict):
    """A number, a boolean or a category; None if it was not scored. `reason` says why it is None or false, where that is known."""

    value: float | bool | str | None
    reason: str | None


class CaseRun(TypedDict):
    """A run of a variant, which is named, for a case. `task_id` is the root of its tree; None if there is none, or no longer. `status` is that of its evaluation."""

    variant: str
    version: int | None
    repeat: int
    status: Status
    task_id: str | None
    scores: dict[str, Score]


class ExperimentCase(TypedDict):
    """A row of the data set, its `number` from 0, and its runs. `disagreement` is the largest difference of the versions in a score."""

    number: int
    inputs: Json
    expected: NotRequired[Any]
    tags: NotRequired[list[str]]
    disagreement: float | None
    runs: list[CaseRun]


class ExperimentResult(Experiment):
    """The result of an experiment so far, with a page of its cases. `slices` are by tag, those of most cases first, at most 20. `questions` counts those to people that are open."""

    questions: int
    variants: list[Variant]
    differences: list[Difference]
    slices: list[Slice]
    results: list[ExperimentCase]
    next_cursor: str | None


class Experiments(TypedDict):
    """A page of experiments, newest first. `next_cursor` is None on the last page."""

    experiments: list[Experiment]
    next_cursor: str | None


class Webhook(TypedDict):
    """The webhook of a run. `signing_key` signs its events; present if the request had no token."""

    id: str
    signing_key: NotRequired[str]


class TaskSchedule(TypedDict):
    """The schedule of a root that has one of its own. Other tasks lack the fields."""

    schedule_type: NotRequired[Literal["once", "interval", "cron", "daily", "weekly", "monthly"]]
    schedule_expression: NotRequired[str]
    schedule_enabled: NotRequired[bool]
    schedule_start_at: NotRequired[str | None]
    schedule_end_at: NotRequired[str | None]
    next_run_at: NotRequired[str | None]
    last_run_at: NotRequired[str | None]
    max_runs: NotRequired[int | None]
    run_count: NotRequired[int]


Dependency = TypedDict(
    "Dependency", {"id": str, "required": bool, "on_skip": NotRequired[Literal["run"]], "as": NotRequired[str]}
)
"""A task that must finish first; if `required`, it must complete or, with `on_skip`, be skipped."""


class TokenUsage(TypedDict):
    """The tokens that a task, or a run, used at a language model, and their cost."""

    prompt_tokens: NotRequired[int]
    completion_tokens: NotRequired[int]
    total_tokens: NotRequired[int]
    cost_usd: NotRequired[float | None]


class CheckResult(TypedDict):
    """The result of one of the checks of a task. `reason` says what it found, or who has approved it."""

    on: Literal["input", "output"]
    name: str
    passed: bool
    reason: str | None
    then: Literal["fail", "ask", "redact", "retry"]


class CachedFrom(TypedDict):
    """The task, and its run, whose result from then a task took (`params.cache`). The ids are None for one of another user."""

    task_id: str | None
    run_id: str | None
    at: str


class TaskSummary(TaskSchedule):
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
    spawned_by: NotRequired[str]
    checks: NotRequired[list[CheckResult]]
    not_run: NotRequired[bool]
    cause_id: NotRequired[str]
    cached_from: NotRequired[CachedFrom]
    run_status: NotRequired[RunStatus | None]
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None


class Task(TaskSummary):
    """A task without its children. `run_status` of a root is that of its latest run, None before the first."""

    inputs: Json
    schemas: Json | None
    params: Json | None
    result: Any


class Tree(Task):
    """A task with its descendants."""

    children: list["Tree"]


class Execution(TypedDict):
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
    original_task_id: NotRequired[str]
    warnings: NotRequired[list[str]]
    webhook: NotRequired[Webhook]
    task: NotRequired[Tree]


class SentEvent(TypedDict):
    """An event that was sent. `woken` is how many waits took it; events with the same `id` are one."""

    event: str
    payload: Any
    id: str
    received_at: str
    woken: int


class Pause(TypedDict):
    """The pause of a flow (`user_id` is its owner), an executor, a provider or a user, and the caller's tasks that wait for its end."""

    kind: str
    name: str
    user_id: str | None
    is_paused: bool
    paused_by: str | None
    paused_at: str | None
    waiting: int
    since: str | None


class Feedback(TypedDict):
    """The opinion of a person on a model call: a `thumb`, a `score` from 0 to 1 and a `note`, each None if it was not given.

    `by` is the user who changed it last, and `at` when.
    """

    thumb: Literal["up", "down"] | None
    score: float | None
    note: str | None
    by: str
    at: str


class RunScore(TypedDict):
    """A score of a run, or of its task `task_id`: a number, a boolean or a category, and the `reason` that was given.

    `source` is a person, an end user of an application or a judge, and `by` the user who set it, or the owner of the judge.
    """

    name: str
    value: float | bool | str
    reason: str | None
    source: Literal["person", "end_user", "judge"]
    task_id: str | None
    by: str
    at: str


class GivenFeedback(TypedDict):
    """The `feedback` on a call, or the `score` of a run, as it is now; None if there is none."""

    run_id: str
    task_id: str | None
    call_id: NotRequired[str]
    feedback: NotRequired[Feedback | None]
    score: NotRequired[RunScore | None]


FileValue = TypedDict("FileValue", {"$file": str, "name": str, "media_type": str, "bytes": int, "sha256": str})
"""A file as a value, as inputs may have it. `$file` is its id."""


class FileInfo(TypedDict):
    """A file. While it is not complete, `received` of its bytes have arrived, and `PUT` at its `url` continues there.

    `file` is the value by which inputs name it, None until it is complete.
    """

    id: str
    name: str
    media_type: str
    bytes: int | None
    sha256: str | None
    user_id: str
    created_at: str
    is_complete: bool
    url: str
    file: FileValue | None
    received: NotRequired[int | None]


class FileDeleted(TypedDict):
    """The file is deleted."""

    file_id: str


class FileLink(TypedDict):
    """A URL with which a browser may read the file until `expires_at`, without a login."""

    url: str
    expires_at: str


class Files(TypedDict):
    """A page of files, the newest first, and the bytes that the caller's files take of `limits.file_bytes_per_user`."""

    files: list[FileInfo]
    next_cursor: str | None
    used_bytes: int


class FlowDeleted(TypedDict):
    """The number of versions that were deleted with the flow, and of its runs, which are kept."""

    success: bool
    name: str
    versions_deleted: int
    runs_kept: int


class Flow(TypedDict):
    """One version of a flow. `newest_version` is what runs by default. `is_tool`: MCP clients of its owner get it as a tool."""

    name: str
    user_id: str
    version: int
    newest_version: int
    description: str
    is_tool: bool
    inputs_schema: Json | None
    tasks: list[Json]
    created_at: str


class Policy(TypedDict):
    """A move of the label needs a completed experiment of the version on the data set. Its mean score must be `at_least` this, and `not_worse` than that of the version that has the label, in the same experiment."""

    dataset: str
    evaluator: str
    at_least: NotRequired[float | None]
    not_worse: NotRequired[bool]


class LabelMove(TypedDict):
    """A move of a label to a version."""

    version: int
    at: str
    by: str
    reason: str


class Label(TypedDict):
    """A label, its version, the percentages of its callers that get the versions of other labels, and its moves, newest first."""

    label: str
    version: int
    shares: dict[str, float]
    policy: Policy | None
    moves: list[LabelMove]


class Labels(TypedDict):
    """The labels of a flow, by name."""

    name: str
    user_id: str
    newest_version: int
    labels: list[Label]


class FlowRun(TypedDict):
    """A run of a flow. `task_id` is the root of its tree."""

    run_id: str
    task_id: str
    version: int
    label: NotRequired[str]
    share: NotRequired[str]
    status: Status
    created_at: str
    started_at: str | None
    finished_at: str | None


class ListedFlow(TypedDict):
    """A flow without its tasks: its newest version, and its newest run if it has any."""

    name: str
    user_id: str
    version: int
    description: str
    is_tool: bool
    inputs_schema: Json | None
    created_at: str
    updated_at: str
    last_run: FlowRun | None


class Flows(TypedDict):
    """A page of flows, by name. `next_cursor` is None on the last page."""

    flows: list[ListedFlow]
    next_cursor: str | None


class FlowRef(TypedDict):
    """The flow and the version that a run executes. `name` is None if the flow has been deleted.

    With the `label` that the caller named; `share` is the one whose version the run has, if it got a share of that label's callers.
    """

    name: str | None
    version: int
    label: NotRequired[str]
    share: NotRequired[str]


class FlowExecution(Execution):
    """The reply to the execution of a flow."""

    flow: FlowRef


class SavedFlow(Flow):
    """A saved version. `is_new` is false if the newest version has the same content: then none was added."""

    is_new: bool
    warnings: list[str]


class FlowVersion(TypedDict):
    """A version of a flow, without its tasks."""

    version: int
    description: str
    created_at: str


class FlowVersions(TypedDict):
    """The versions of a flow that are kept, newest first."""

    name: str
    user_id: str
    versions: list[FlowVersion]


class EndedRuns(TypedDict):
    """Sums of the runs that ended in a time; `cost_usd` is the known part of their cost."""

    runs: int
    completed: int
    failed: int
    total_tokens: int
    cost_usd: float


class FlowShare(TypedDict):
    """The failed runs of one flow of `user_id`. `name` is empty for runs of no flow, None for a deleted flow."""

    name: str | None
    user_id: str
    runs: int


class FailureGroup(TypedDict):
    """Failed runs with one error.

    `error` is that of the newest of them, and `pattern` what all have in common: ids, numbers, times, paths and URLs are
    replaced. `state`: `failing` if the latest run of one of the flows failed so, `over` if a run of each has completed
    since, else empty. `is_new`: it did not occur in the 30 days before.
    """

    key: str
    error: str
    pattern: str
    runs: int
    flows: list[FlowShare]
    first_at: str
    last_at: str
    newest_run_id: str
    state: Literal["failing", "over", ""]
    is_new: bool


class Trouble(TypedDict):
    """A run (`task_id` is its root) that is stuck, or a schedule that is late, missed times, or is paused for a reason.

    `at`: of the last event, the time that is due, the last time that was missed, or when it was paused.
    """

    kind: Literal["stuck", "late", "missed", "paused"]
    name: str
    at: str | None
    reason: str
    count: int
    task_id: str | None
    schedule_id: str | None


class Load(TypedDict):
    """The worker processes that are alive, with their places, and the caller's runs that run or wait for a worker."""

    workers: int
    places: int
    running: int
    queued: int
    queued_since: str | None


class Home(TypedDict):
    """Events from `since` until now; `week_before` are the same hours seven days before.

    `failures` are the largest of so many groups (`causes`). `questions` is how many wait for an answer of the caller.
    """

    since: str
    until: str
    totals: EndedRuns
    week_before: EndedRuns
    causes: int
    failures: list[FailureGroup]
    troubles: list[Trouble]
    questions: int
    load: Load


class HookDeleted(TypedDict):
    """Whether there was an inbound hook with that name."""

    name: str
    deleted: bool


class HookDelivery(TypedDict):
    """A delivery whose signature was valid. `delivery` is its number here, and `delivery_id` the id by which the sender knows it.

    `started`: `run_id` is the run, and `task_id` its root. `sent`: `event_id` is the event. `answered`: `task_id` asked. `filtered`
    and `failed`: `reason` says why. `replay_of` is the delivery that the owner has replayed.
    """

    delivery: int
    delivery_id: str
    outcome: Literal["started", "sent", "answered", "filtered", "failed"]
    reason: str | None
    run_id: str | None
    task_id: str | None
    event_id: str | None
    replay_of: int | None
    received_at: str
    headers: NotRequired[Json]
    body: NotRequired[Any]


class HookDeliveries(TypedDict):
    """A page of deliveries, the newest first. `next_before` is None on the last page."""

    deliveries: list[HookDelivery]
    next_before: int | None


class HmacScheme(TypedDict):
    """The way in which a sender signs that is none of the known ones: an HMAC of the body in the `header`, behind a `prefix`.

    With a `timestamp_header`, of seconds since 1970, `TIMESTAMP.BODY` is signed. The id of a delivery is in the header
    `id_header`, or in the body at the JSON Pointer `id_path`; without either, the signed bytes are the id. `headers` are those that the filter and
    the mapping may read.
    """

    header: str
    algorithm: NotRequired[Literal["sha1", "sha256", "sha384", "sha512"]]
    encoding: NotRequired[Literal["hex", "base64"]]
    prefix: NotRequired[str]
    timestamp_header: NotRequired[str | None]
    id_header: NotRequired[str | None]
    id_path: NotRequired[str | None]
    headers: NotRequired[list[str]]


class InboundHook(TypedDict):
    """An inbound hook. `url` is for the sender; `secrets` are names, and no interface shows their values."""

    name: str
    url: str
    verifier: Literal["github", "stripe", "slack", "standard", "hmac"]
    secrets: list[str]
    hmac: HmacScheme | None
    tolerance_seconds: int
    filter: Json | None
    flow: str | None
    inputs: Json | None
    event: str | None
    payload: Json | None
    answers: bool
    created_at: str
    updated_at: str


class InboundHooks(TypedDict):
    """The inbound hooks of the caller, by name."""

    hooks: list[InboundHook]


class JudgeDeleted(TypedDict):
    """Whether there was a judge with that name."""

    flow: str
    name: str
    deleted: bool


class Alert(TypedDict):
    """The mean with which the owner was informed, and when."""

    mean: float
    at: str


class Judge(TypedDict):
    """A judge of a flow. `judged` counts the runs that it has scored, `not_scored` those for which it had no score, with the newest reason as `problem`, and `over_budget` those that were left out because the budget of the day was used up.

    `mean` is that of the newest `runs` scores that are numbers or booleans; None without any. `alert` is None if that is not below `below`.
    """

    flow: str
    user_id: str
    name: str
    evaluator: Json
    sample: float
    cost_usd_per_day: float | None
    below: float | None
    runs: int
    judged: int
    not_scored: int
    over_budget: int
    in_progress: int
    mean: float | None
    spent_today_usd: float
    problem: str | None
    alert: Alert | None


class Judges(TypedDict):
    """The judges of a flow, by name."""

    judges: list[Judge]


class LimitDeleted(TypedDict):
    """`deleted` is false if no limit of this name was set: one of the configuration cannot be deleted."""

    name: str
    deleted: bool


class NamedLimit(TypedDict):
    """A named limit: `limit`, as it is configured or was set (`is_set`), and the caller's tasks that wait for it, for administrators those of all users.

    `since` is when the first of them began to wait. `at_work` counts the places that are taken; None without `at_once`. With `user_id`,
    it is for the tasks of this user alone, who has set it.
    """

    name: str
    user_id: str | None
    limit: Json
    is_set: bool
    set_by: str | None
    set_at: str | None
    waiting: int
    since: str | None
    at_work: int | None


class WaitingTask(TypedDict):
    """A task that waits for a limit. `text` says about how long, as when it began to wait."""

    task_id: str
    run_id: str
    user_id: str
    since: str
    text: str


class LimitDetail(NamedLimit):
    """A named limit with the first 100 of the tasks that wait for it, the next to start first."""

    tasks: list[WaitingTask]


class NamedLimits(TypedDict):
    """All named limits, and what is paused."""

    limits: list[NamedLimit]
    pauses: list[Pause]


class NotificationDeleted(TypedDict):
    """Whether there was a notification with that name."""

    name: str
    deleted: bool


class Notification(TypedDict):
    """A message about failed runs (`failures`), questions or both, of a flow or (None) of all runs. It goes to `url` or `email`; the other one is None.

    `signing_key` is there once: when the server has made it.
    """

    name: str
    about: list[Literal["failures", "questions"]]
    flow: str | None
    format: Literal["json", "slack"]
    url: str | None
    email: str | None
    created_at: str
    updated_at: str
    signing_key: NotRequired[str]


class Notifications(TypedDict):
    """The notifications of the caller, by name."""

    notifications: list[Notification]


class NotificationTested(TypedDict):
    """Whether the test message was delivered. `status_code` is of the receiver's reply, None for a mail or without a reply."""

    name: str
    delivered: bool
    status_code: int | None
    error: str | None


class Question(TypedDict):
    """The open question of a task. `schema` is that of a form. `answer_url` needs no login; None if the caller may not answer."""

    id: str
    text: str
    options: list[str] | None
    schema: Json | None
    assignees: list[str] | None
    asked_at: str
    expires_at: str | None
    answer_url: str | None


class OpenQuestion(Question):
    """An open question with the id of the task that asks it, for `tasks.answer`."""

    task_id: str


class OpenQuestions(TypedDict):
    """Open questions of the caller's trees, and those that the caller may answer as an assignee; oldest first."""

    questions: list[OpenQuestion]


class CallUsage(TypedDict):
    """The tokens of one call. `cached_tokens` of the prompt and `reasoning_tokens` of the completion are None if unknown."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None
    reasoning_tokens: int | None


class ModelCall(TypedDict):
    """One call of a language model by a task.

    `agent` and `crew_task` are those of a crew, `step` that of an agent, from 1. `duration_ms` is None for a call that
    an executor made itself and reported, and `first_token_ms`, the time to the first word, for an answer that came at once.
    `feedback` is None until `feedback.set` sets it.
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


class CallContent(TypedDict):
    """The content of a call, within bounds. `answer` is None if there was no text, and `reasoning` if the provider shows none.

    `citations` are sources as the provider gives them. `options` are the parameters, such as `temperature` and `tools`; None if
    they are too long, or in the record of an earlier version.
    """

    messages: list[Any]
    left_out_messages: int
    answer: str | None
    reasoning: str | None
    citations: list[Any]
    left_out_citations: int
    tool_calls: list[Any]
    left_out_tool_calls: int
    options: Json | None


class ModelCallWithContent(ModelCall):
    """A call with what was said; `content` is None if that is not stored."""

    content: CallContent | None


class ModelCalls(TypedDict):
    """A page of model calls, the oldest first. `next_cursor` is None on the last page."""

    calls: list[ModelCallWithContent]
    next_cursor: str | None


class Run(TypedDict):
    """A run. `task_id` is what it runs: the root of its tree, or a part; `name` is that of the root.

    `number` counts the runs of the tree from 1. `seconds` is the duration, so far; None before the start.
    `error` is the start of the error that failed the run. `token_usage` is what its model calls used; None without any.
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


class RunWithInputs(Run):
    """A run with its inputs."""

    inputs: Json


class Side(TypedDict):
    """A task in one of two runs. `seconds` is None if it has not both started and ended."""

    task_id: str
    status: Status
    inputs: Json
    params: Json | None
    result: Any
    error: str | None
    not_run: NotRequired[bool]
    cause_id: NotRequired[str]
    seconds: float | None
    token_usage: TokenUsage | None


class Pair(TypedDict):
    """A task in both runs; None where it does not exist. `changed` names the fields that differ. `key` is the id that was sent."""

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


class ParentRun(TypedDict):
    """The run whose task `task_id` has started the run of this tree, and waits for it."""

    run_id: str
    task_id: str


class Failure(TypedDict):
    """A task that failed in a run. With `not_run`, it has not run because the task `cause_id` failed."""

    task_id: str
    name: str
    error: str | None
    not_run: NotRequired[bool]
    cause_id: NotRequired[str]


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


class NeededCode(TypedDict):
    """The code for which a workflow of a run waits, `since` when: a `version` of the workflow, or any if that is None. `difference` is what a
    replay by other code has met. The run continues when a worker has the code; `has_worker` says whether a live one has it.
    """

    task_id: str
    workflow: str
    version: str | None
    since: str
    difference: str | None
    has_worker: bool


class RunDetail(RunWithInputs):
    """A run with its inputs, the run that waits for it, the first ten tasks that failed it, the cause first, its first 100
    model calls, its scores, the deaths of its workers, and the code for which it waits.
    """

    parent_run: ParentRun | None
    failures: list[Failure]
    model_calls: list[ModelCall]
    scores: list[RunScore]
    suspicion: Suspicion
    needs_code: list[NeededCode]


class Event(TypedDict):
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
    not_run: NotRequired[bool]
    cause_id: NotRequired[str]
    cached_from: NotRequired[CachedFrom]
    timestamp: str
    protocol: Literal["jsonrpc", "a2a"]


class RunExport(TypedDict):
    """A whole run. `events` are there if they were asked for; those that have been deleted (`events.keep_days`) are missing."""

    run: RunDetail
    tree: Tree
    warnings: list[str]
    events: NotRequired[list[Event]]


class Runs(TypedDict):
    """A page of runs. `next_cursor` is None on the last page."""

    runs: list[Run]
    next_cursor: str | None


class RunTree(TypedDict):
    """A run, and its tree as it stood when the run ended; of a run that is not over, as it is now."""

    run: Run
    tree: Tree
    warnings: list[str]


class ScheduledRun(TypedDict):
    """One of the times of a schedule. `reason` is the reason why there is no run.

    `task_id` is the root of the tree that was run, and `status` that of the run.
    """

    scheduled_for: str
    outcome: Literal["started", "queued", "skipped", "failed"]
    cause: Literal["clock", "trigger", "backfill", "reported"]
    reason: str | None
    run_id: str | None
    task_id: str | None
    status: Status | None
    started_at: str | None


class ScheduledRuns(TypedDict):
    """The times of a schedule, with the action at each."""

    runs: list[ScheduledRun]


class Schedule(TypedDict):
    """A schedule. Times are ISO 8601 in UTC. Only `schedules.get` returns `tasks` and `inputs`.

    `in_words` describes its times. `next_run_at` is None while it is paused, and at its end. With a `schedule_type` it is the
    schedule of the task itself, which runs again; otherwise each run gets a copy.
    """

    id: str
    name: str
    user_id: str
    tasks: NotRequired[Any]
    task_id: str | None
    flow: str | None
    flow_version: int | None
    inputs: NotRequired[Json | None]
    tags: list[str]
    schedule_type: str | None
    cron: str | None
    every_seconds: int | None
    at: str | None
    timezone: str
    in_words: str
    starts_at: str | None
    ends_at: str | None
    max_runs: int | None
    overlap: Literal["skip", "queue", "cancel_previous", "allow"]
    catch_up: Literal["none", "last", "all"]
    catch_up_window_seconds: int
    jitter_seconds: int
    is_paused: bool
    pause_reason: str | None
    pause_after_failures: int | None
    next_run_at: str | None
    last_run_at: str | None
    last_status: Status | None
    run_count: int
    created_at: str
    updated_at: str


class ScheduleDeleted(TypedDict):
    """The deleted schedule. Its trees and runs are kept."""

    schedule_id: str
    deleted: bool


class Schedules(TypedDict):
    """A page of schedules. `next_cursor` is None on the last one."""

    schedules: list[Schedule]
    next_cursor: str | None


class ScheduledTime(TypedDict):
    """A time in UTC, and as a clock in the zone of the schedule shows it."""

    at: str
    local: str


class SchedulePreview(TypedDict):
    """The next times of a schedule, and how people say it."""

    in_words: str
    timezone: str
    times: list[ScheduledTime]


class Answered(TypedDict):
    """The recorded answer to a question."""

    success: bool
    task_id: str
    question_id: str
    question: str
    answer: Any
    by: str
    comment: str | None


class Cancellation(TypedDict):
    """The result of cancelling one task."""

    task_id: str
    status: Literal["cancelled", "failed"]
    message: str
    current_status: Status | None
    result: NotRequired[Any]
    token_usage: NotRequired[TokenUsage]


class StoredTree(Tree):
    """A stored tree. `ids` maps each sent or copied id to the stored one."""

    ids: dict[str, str]
    warnings: list[str]
    webhook: NotRequired[Webhook]


class Counts(TypedDict):
    """The number of tasks in each status."""

    pending: int
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    total: int


class Deletion(TypedDict):
    """The number of deleted tasks, and how many of them were descendants."""

    success: bool
    task_id: str
    deleted_count: int
    children_deleted: int


class Timings(TypedDict):
    """Seconds from the start of the run to that of the task, and from there to its end or now."""

    queued_seconds: float | None
    run_seconds: float | None


class Wait(TypedDict):
    """The wait of a task, if not for an answer: a time, an event, a run of its own (`child_run`), or its turn in a named `limit`, or an equal `call`. `text` says for what, as in "waits for limit crm, about 12 s". At `until` a wait for a time is over, and one for an
    event times out. A `POST` to `hook_url` ends a wait for an event, without a login; None if the caller may not do that. Without `server.public_url` it begins as the address that was called.
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


class ChildRun(TypedDict):
    """The newest run that a task has started and waited for. `task_id` is the root of its tree."""

    run_id: str
    task_id: str
    status: Status


class Detail(Task):
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


class Generated(TypedDict):
    """A generated tree. `root_task_id` is present if it was stored, `run_id` if it runs."""

    tasks: list[Json]
    count: int
    message: str
    root_task_id: NotRequired[str]
    run_id: NotRequired[str]


class ListedTask(TaskSummary):
    """A task of `tasks.list`; a root with its latest run (None before the first).

    A summary lacks inputs, schemas, params and result, and of a root has the number of tasks in each
    status; None if the page has too many to count.
    """

    inputs: NotRequired[Json]
    schemas: NotRequired[Json | None]
    params: NotRequired[Json | None]
    result: NotRequired[Any]
    run_id: NotRequired[str | None]
    run_number: NotRequired[int | None]
    task_counts: NotRequired[dict[Status, int] | None]
    not_run_count: NotRequired[int]


class Page(TypedDict):
    """A page of tasks. `next_cursor` is None on the last page."""

    tasks: list[ListedTask]
    next_cursor: str | None


class RunningCount(TypedDict):
    """The number of trees that are running or waiting for a worker."""

    count: int


class Standing(TypedDict):
    """The status of a task; a root reports its latest run."""

    task_id: str
    context_id: str | None
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled", "skipped", "not_found"]
    progress: float
    error: str | None
    not_run: NotRequired[bool]
    cause_id: NotRequired[str]
    is_running: bool
    started_at: str | None
    updated_at: str | None


class Calendar(TypedDict):
    """A calendar in the iCalendar format (RFC 5545), with an event for each task."""

    ical_content: str
    task_count: int


class BudgetLimit(TypedDict):
    """A limit of `params.budget`, and what the latest run has spent of it. `text` says both."""

    measure: Literal["tokens", "cost_usd", "seconds", "tasks"]
    spent: float
    allowed: float
    text: str


class TreeNode(Task):
    """A task of `tasks.tree` with its descendants. `task` repeats its fields for clients of apflow 0.12 and later.

    Only a root has its latest run (None before the first), and only one with a budget has `budget`.
    """

    task: Task
    run_id: NotRequired[str | None]
    run_number: NotRequired[int | None]
    budget: NotRequired[list[BudgetLimit]]
    children: list["TreeNode"]


class Triggered(TypedDict):
    """Whether a task was run. `result` and `error` are there if the reply waited for the end of the run."""

    success: bool
    task_id: str
    status: NotRequired[Literal["triggered", "completed", "failed", "cancelled"]]
    message: NotRequired[str]
    result: NotRequired[Any]
    error: NotRequired[str | None]


class UsageRow(TypedDict):
    """Sums of model calls. Only the fields by which they are grouped are there; `model` is None if it is not known, `flow` for runs of no flow.

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


class WebhookDeleted(TypedDict):
    """Whether there was a webhook with that id."""

    webhook_id: str
    deleted: bool


class RunWebhook(TypedDict):
    """A URL that receives the events of a run. `last_seq` is the last event that was delivered or given up; 0: none.

    `kind` is `native`, `a2a` or `a2a_0_3` for push notifications, and `failure` or `failure_email` for notifications
    about runs that fail. `state` is `finished` when the run has ended and all was sent, and `disabled` when the
    receiver rejected too much.
    """

    id: str
    run_id: str
    kind: str
    url: str
    method: str
    state: Literal["open", "finished", "disabled"]
    last_seq: int
    created_at: str


class RunWebhooks(TypedDict):
    """The webhooks of a run, in the order in which they were added."""

    webhooks: list[RunWebhook]


class LLMKeyDeleted(TypedDict):
    """`deleted` is false if there was no key."""

    success: bool
    user_id: str
    provider: str
    deleted: bool


class LLMKeyInfo(TypedDict):
    """The public facts about a stored key."""

    provider: str
    last_four: str
    created_at: str
    used_at: str | None


class LLMKeys(TypedDict):
    """The keys of a user, or that for one provider.

    `providers` has the last four characters of all keys.
    """

    has_key: bool
    user_id: str
    provider: str | None
    providers: dict[str, str]
    keys: list[LLMKeyInfo]


class LLMKeyStored(TypedDict):
    """The stored key. `last_four` is empty for a short key."""

    success: bool
    user_id: str
    provider: str
    last_four: str


class SecretDeleted(TypedDict):
    """`deleted` is false if there was no such secret."""

    name: str
    scope: Literal["own", "shared"]
    deleted: bool


class SecretInfo(TypedDict):
    """The public facts about a named secret; never its value.

    `users` of a shared one, and its `used_at`, are for administrators only. Without `allow_hosts` it
    may be sent anywhere, without `allow_in` be used in any input that takes secrets, and without
    `users` all may use it.
    """

    name: str
    scope: Literal["own", "shared"]
    allow_hosts: list[str]
    allow_in: list[str]
    users: list[str] | None
    created_at: str
    used_at: str | None


class Secrets(TypedDict):
    """The secrets that the user may use."""

    secrets: list[SecretInfo]
