"""Methods for the history of runs: list, read and compare them, and run a tree again from the middle."""

from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from a2a.core.mapping import native_call, native_content, native_flow_of, native_task, native_time, native_tree
from a2a.core.parsing import NotWith, Params, Problem, Text
from a2a.methods.execute import STARTS_ANOTHER, TakesInputs, executed, replied, start
from a2a.methods.method import OPERATOR, TREE_ERRORS, VIEWER, Response, Rest, Tool, method
from a2a.methods.params import (
    Moment,
    Tag,
    chosen_fields,
    moment,
    one_of,
    period_problems,
    picked,
    problems_of_fields,
    several_of,
)
from a2a.methods.responses import Event, Execution, Feedback, FlowRef, ModelCall, ParentRun, RunStatus, TokenUsage, Tree
from a2a.methods.results import DataResult, TaskResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys.providers import SentKey
from tasks import models
from tasks.models import Task
from tasks.queue.leases import Suspects
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.rules.tags import RULE, TAG
from tasks.rules.words import as_sent
from tasks.services import history
from tasks.services.evals import scores
from tasks.services.history import comparisons, past_trees
from tasks.services.history.past_trees import past_tree
from tasks.services.spending import usage
from tasks.services.trees import forks
from tasks.services.trees.idempotency import Token
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
    """A task that failed in a run. With `not_run`, it has not run because the task `cause_id` failed."""

    task_id: str
    name: str
    error: str | None
    not_run: bool | UnsetType = UNSET
    cause_id: str | UnsetType = UNSET


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


class NeededCode(Response, frozen=True, kw_only=True):
    """The code for which a workflow of a run waits, `since` when: a `version` of the workflow, or any if that is null. `difference` is what a
    replay by other code has met. The run continues when a worker has the code; `has_worker` says whether a live one has it.
    """

    task_id: str
    workflow: str
    version: str | None
    since: str
    difference: str | None
    has_worker: bool


class RunDetail(RunWithInputs, frozen=True, kw_only=True):
    """A run with its inputs, the run that waits for it, the first ten tasks that failed it, the cause first, its first 100
    model calls, its scores, the deaths of its workers, and the code for which it waits.
    """

    parent_run: ParentRun | None
    failures: list[Failure]
    model_calls: list[ModelCall]
    scores: "list[RunScore]"
    suspicion: Suspicion
    needs_code: list[NeededCode]


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
    not_run: bool | UnsetType = UNSET
    cause_id: str | UnsetType = UNSET
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


class CallContent(Response, frozen=True, kw_only=True):
    """The content of a call, within bounds. `answer` is null if there was no text, and `reasoning` if the provider shows none.

    `citations` are sources as the provider gives them. `options` are the parameters, such as `temperature` and `tools`; null if
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


class ModelCallWithContent(ModelCall, frozen=True, kw_only=True):
    """A call with what was said; `content` is null if that is not stored."""

    content: CallContent | None


class ModelCalls(Response, frozen=True, kw_only=True):
    """A page of model calls, the oldest first. `next_cursor` is null on the last page."""

    calls: list[ModelCallWithContent]
    next_cursor: str | None


FieldOfRun = Annotated[str, Meta(extra_json_schema=one_of(Run))]
FieldsOfRun = Annotated[str, Meta(extra_json_schema=several_of(Run))]


class ListRuns(Params, frozen=True, kw_only=True):
    """runs.list"""

    task_id: Text | None = None
    """Only runs of the tree that contains this task."""
    flow: Text | None = None
    """Only runs of this flow."""
    status: RunStatus | list[RunStatus] | None = None
    tag: Tag | None = None
    """Only runs with this tag."""
    text: Text | None = None
    """Only runs with this text in the name of their tree, at the start of their id or that of the tree, or in an error that failed them."""
    user_id: Text | None = None
    since: Moment | None = None
    """Only runs that were created at this time or later."""
    until: Moment | None = None
    """Only runs that were created before this time."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: str = ""
    fields: FieldsOfRun | list[FieldOfRun] | None = None
    """Only these fields of each run."""

    @property
    def statuses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.status] if isinstance(self.status, str) else self.status or ()))

    def contradictions(self) -> list[Problem]:
        no_tag = [] if self.tag is None or TAG.fullmatch(self.tag) else [("tag", RULE)]
        unknown = problems_of_fields(self.fields, Run)
        return [*super().contradictions(), *no_tag, *unknown, *period_problems(self.since, self.until)]


class GetRun(Params, frozen=True, kw_only=True):
    """runs.get"""

    run_id: Text


class GetRunTree(GetRun, frozen=True, kw_only=True):
    """runs.tree"""


class ListCalls(GetRun, frozen=True, kw_only=True):
    """runs.calls"""

    task_id: Text | None = None
    """Only the calls of this task."""
    limit: Annotated[int, Meta(ge=1, le=200)] = 20
    cursor: str = ""


Category = Annotated[str, Meta(extra_json_schema={"pattern": f"^{scores.CATEGORY.pattern}$"})]
OF_CALL: Final = {"properties": {"score": {"type": ["number", "null"], "minimum": 0, "maximum": 1}}}


class SetFeedback(Params, frozen=True, kw_only=True):
    """feedback.set"""

    NULLABLE = frozenset({"thumb", "score", "note"})
    CONDITIONS = (
        NotWith("call_id", "run_id", "cannot be combined with run_id: choose a model call or a run"),
        NotWith("thumb", "run_id", "is of a model call; a run has a score, such as true"),
    )
    call_id: Text | None = None
    """The id of a model call, as in `runs.calls`."""
    run_id: Text | None = None
    """A run, instead of a model call."""
    task_id: Text | None = None
    """A task of the run, if the score is not that of the whole run."""
    name: Annotated[str, Meta(extra_json_schema={"pattern": f"^{scores.NAME.pattern}$"})] | None = None
    """The name of the score. Default: `feedback`."""
    source: Literal["person", "end_user"] | None = None
    """A person of your team, or an end user of your application, who is the default. Each source has its own score of this name."""
    thumb: Literal["up", "down"] | UnsetType | None = UNSET
    score: float | bool | Category | UnsetType | None = UNSET
    """A number from 0 (bad) to 1 (good) for a model call; a number, a boolean or a category, which is one word, for a run."""
    note: Annotated[str, Meta(min_length=1, max_length=10_000)] | UnsetType | None = UNSET

    @property
    def opinion(self) -> Json:
        return {name: value for name in usage.OPINION if (value := getattr(self, name)) is not UNSET}

    def contradictions(self) -> list[Problem]:
        found = super().contradictions()
        if self.run_id is not None:
            return found if self.score is not UNSET else [*found, ("score", "required; null removes it")]
        if self.call_id is None:
            found.append(("run_id", "required, or call_id"))
        else:
            of_runs = ("task_id", "name", "source")
            found += [(name, "only with run_id") for name in of_runs if getattr(self, name) is not None]
        if self.call_id is not None and not self.opinion:
            found.append(("thumb", "required, or score or note; null removes one"))
        if isinstance(self.score, bool | str) or (isinstance(self.score, float) and not 0 <= self.score <= 1):
            found.append(("score", "must be a number from 0 to 1"))
        return found


class RunScore(Response, frozen=True, kw_only=True):
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


class GivenFeedback(Response, frozen=True, kw_only=True):
    """The `feedback` on a call, or the `score` of a run, as it is now; null if there is none."""

    run_id: str
    task_id: str | None
    call_id: str | UnsetType = UNSET
    feedback: Feedback | UnsetType | None = UNSET
    score: RunScore | UnsetType | None = UNSET


class ExportRun(Params, frozen=True, kw_only=True):
    """runs.export"""

    run_id: Text
    events: bool = False
    """Also the events of the run."""


class CompareRuns(Params, frozen=True, kw_only=True):
    """runs.compare"""

    a: Text
    """The id of a run."""
    b: Text
    """The id of another run."""
    changed_only: bool = False
    """Leave out the tasks in which nothing differs."""


class Fork(TakesInputs, frozen=True, kw_only=True):
    """tasks.fork"""

    ALIASES = MappingProxyType({"id": "task_id", "from": "from_tasks"})
    task_id: Text
    """Any task of the tree."""
    from_tasks: list[Text] | None = None
    """The first tasks to run: by default those with new inputs or, without any, `task_id`."""
    inputs: dict[Text, dict[str, Any]] | None = None
    """The inputs of some tasks, by their ids, instead of what they had."""

    def contradictions(self) -> list[Problem]:
        resumes = [("last_event_id", STARTS_ANOTHER)] if self.last_event_id is not None else []
        return [*super().contradictions(), *resumes]


@method(
    "runs.list",
    role=VIEWER,
    answer=Runs,
    rest=[
        Rest("listRunsOfTask", "GET tasks/<task_id>/runs/", errors=(errors.FlowNotFound,)),
        Rest("listRuns", "GET runs/", errors=(errors.TaskNotFound, errors.FlowNotFound)),
    ],
    tool=Tool("list_runs", "List runs", "List your runs, the newest first. Filter by status, flow, tree or time."),
)
def list_runs(caller: Caller, given: ListRuns) -> DataResult:
    """Return a page of runs, the newest first."""
    wanted = history.RunFilter(
        task_id=given.task_id,
        flow=given.flow,
        statuses=given.statuses,
        tag=given.tag,
        text=given.text,
        user_id=given.user_id,
        since=None if given.since is None else moment(given.since),
        until=None if given.until is None else moment(given.until),
    )
    runs, next_cursor = history.list_runs(caller=caller, wanted=wanted, limit=given.limit, cursor=given.cursor)
    names = chosen_fields(given.fields)
    shown = [picked(native_run(facts), names) for facts in runs]
    return DataResult(native={"runs": shown, "next_cursor": next_cursor})


@method("runs.get", role=VIEWER, answer=RunDetail, rest=[Rest("getRun", "GET runs/<run_id>/")])
def get(caller: Caller, given: GetRun) -> DataResult:
    """Return a run with its inputs and its failures."""
    return DataResult(native=native_detail(history.get_run(caller=caller, run_id=given.run_id)))


def native_score(score: models.Score) -> Json:
    """Return a score of a run."""
    return {
        "name": score.name,
        "value": score.value,
        "reason": score.reason,
        "source": score.source,
        "task_id": score.task_id or None,
        "by": score.by,
        "at": native_time(score.at),
    }


def native_detail(found: history.RunDetail) -> Json:
    """Return a run with what it got and what failed in it."""
    parent = found.parent and {"run_id": found.parent.run_id, "task_id": found.parent.task_id}
    more = {"inputs": found.inputs, "parent_run": parent, "failures": [each.native for each in found.failures]}
    calls = {
        "model_calls": [native_call(call) for call in found.calls],
        "scores": [native_score(score) for score in found.scores],
    }
    needed = [
        {name: getattr(each, name) for name in ("task_id", "workflow", "version", "difference", "has_worker")}
        | {"since": native_time(each.since)}
        for each in found.needs
    ]
    suspicion = _suspicion(found.facts.run, found.suspects)
    return native_run(found.facts) | more | calls | {"suspicion": suspicion, "needs_code": needed}


def _suspicion(run: models.Run, others: Suspects | None) -> Json:
    shown = ("at", "exit_code", "was_executing")
    return {
        "is_suspected": others is not None,
        "since": native_time(run.suspected_at if others else None),
        "is_waiting": others is not None and run.lease_owner is None,
        "waiting": others.waiting if others else 0,
        "oldest": native_time(others.oldest_at if others else None),
        "strikes": run.strikes,
        "losses": run.losses,
        "host_losses": run.host_losses,
        "deaths": [{name: death[name] for name in shown} for death in run.deaths or ()],
    }


@method("runs.calls", role=VIEWER, answer=ModelCalls, rest=[Rest("listModelCallsOfRun", "GET runs/<run_id>/calls/")])
def calls(caller: Caller, given: ListCalls) -> DataResult:
    """Return a page of the model calls of a run with what was said, the oldest first."""
    found, next_cursor = usage.list_calls(
        caller=caller, run_id=given.run_id, task_id=given.task_id, limit=given.limit, cursor=given.cursor
    )
    shown = [native_call(call) | {"content": native_content(call.content)} for call in found]
    return DataResult(native={"calls": shown, "next_cursor": next_cursor})


@method(
    "feedback.set",
    role=OPERATOR,
    answer=GivenFeedback,
    rest=[
        Rest(
            "setFeedback",
            "PUT calls/<call_id>/feedback/",
            rules={"minProperties": 1, "anyOf": [OF_CALL]},
            without=frozenset({"run_id", "task_id", "name", "source"}),
        ),
        Rest(
            "scoreRun",
            "PUT runs/<run_id>/feedback/",
            errors=(errors.TaskNotFound, errors.LimitReached),
            rules={"required": ["score"]},
            without=frozenset({"call_id", "thumb"}),
        ),
    ],
    tool=Tool(
        "set_feedback",
        "Score a run or a model call",
        "Store what a person or an end user thinks of a run: a number, a boolean or a category, with a note. Setting it again replaces it.",
        is_idempotent=True,
    ),
)
async def set_feedback(caller: Caller, given: SetFeedback) -> DataResult:
    """Say what is thought of a run or of a model call. A score of a run replaces the one before it; null removes a field."""
    if given.run_id is not None:
        score = await pools.write(
            scores.set_score,
            caller=caller,
            run_id=given.run_id,
            task_id=given.task_id,
            name=given.name or "feedback",
            source=given.source or scores.END_USER,
            value=None if given.score is UNSET else given.score,
            reason=None if given.note is UNSET else given.note,
        )
        shown = None if score is None else native_score(score)
        return DataResult(native={"run_id": given.run_id, "task_id": given.task_id, "score": shown})
    call = await pools.write(partial(usage.set_feedback, caller=caller, call_id=str(given.call_id), **given.opinion))
    names = ("run_id", "task_id", "feedback")
    return DataResult(native={"call_id": call.id} | {name: getattr(call, name) for name in names})


@method("runs.tree", role=VIEWER, answer=RunTree, rest=[Rest("getTreeOfRun", "GET runs/<run_id>/tree/")])
def tree(caller: Caller, given: GetRunTree) -> DataResult:
    """Return the tree of a run as it stood when the run ended."""
    past = past_tree(caller=caller, run_id=given.run_id)
    shown = {
        "run": native_run(past.facts),
        "tree": native_tree(past.tasks) | {"run_status": past.facts.run.status},
        "warnings": past.warnings,
    }
    return DataResult(native=shown)


@method("runs.export", role=VIEWER, answer=RunExport, rest=[Rest("exportRun", "GET runs/<run_id>/export/")])
def export(caller: Caller, given: ExportRun) -> DataResult:
    """Return a run as a whole, for a file: its inputs, its tree as it stood when the run ended, and its events."""
    found = past_trees.export(caller=caller, run_id=given.run_id, with_events=given.events)
    return DataResult(native=native_export(found))


def native_export(found: past_trees.RunExport) -> Json:
    """Return a whole run, as clients get it."""
    shown = {
        "run": native_detail(found.detail),
        "tree": native_tree(found.past.tasks) | {"run_status": found.past.facts.run.status},
        "warnings": found.past.warnings,
    }
    if found.events is None:
        return shown
    return shown | {"events": [as_sent(event, has_tokens=False) for event in found.events]}


@method(
    "runs.compare",
    role=VIEWER,
    answer=Comparison,
    rest=[Rest("compareRuns", "GET runs/compare/", errors=(errors.RunNotFound,))],
)
def compare(caller: Caller, given: CompareRuns) -> DataResult:
    """Compare two runs task by task."""
    found = comparisons.compare(caller=caller, a=given.a, b=given.b)
    pairs = [pair for pair in found.pairs if not given.changed_only or pair.is_changed]
    a, b = (native_run(run) | {"inputs": inputs} for run, inputs in zip((found.a, found.b), found.inputs, strict=True))
    return DataResult(native={"a": a, "b": b, "tasks": [_pair(pair) for pair in pairs], "warnings": found.warnings})


def _pair(pair: comparisons.Pair) -> Json:
    return {
        "key": pair.key,
        "name": pair.name,
        "a": pair.a and _side(pair.a),
        "b": pair.b and _side(pair.b),
        "changed": pair.changed,
    }


def _side(task: Task) -> Json:
    shown = native_task(task)
    compared = [name for name in Side.__struct_fields__ if name in shown]
    return {"task_id": task.id, "seconds": comparisons.seconds_of(task)} | {name: shown[name] for name in compared}


@method(
    "tasks.fork",
    role=OPERATOR,
    answer=Execution,
    rest=[
        Rest(
            "forkTask",
            "POST tasks/<task_id>/fork/",
            answers={200: Execution, 202: Execution},
            answered=executed,
            errors=(errors.LimitReached, *TREE_ERRORS),
            without=frozenset({"last_event_id", "use_streaming"}),
        )
    ],
)
async def fork(
    caller: Caller, given: Fork, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Run a tree again from some of its tasks, in a copy that keeps what was done before them."""
    execution = await start(
        caller,
        given,
        forks.fork,
        token=token,
        llm_key=llm_key,
        task_id=given.task_id,
        start=given.from_tasks or (),
        inputs=given.inputs or {},
    )
    return await replied(caller, given, execution)


def native_run(facts: history.RunFacts) -> Json:
    """Return a run, as clients get it."""
    run = facts.run
    return {
        "id": run.id,
        "task_id": run.target_id,
        "root_task_id": run.root_id,
        "name": facts.name,
        "number": run.number,
        "status": run.status,
        "user_id": run.user_id,
        "context_id": run.context_id,
        "flow": native_flow_of(facts.flow, run) if run.flow_id else None,
        "schedule_id": facts.firing and facts.firing.schedule_id,
        "scheduled_for": native_time(facts.firing.scheduled_for if facts.firing else None),
        "tags": list(facts.tags),
        "error": facts.error,
        "is_demo": run.is_demo,
        "created_at": native_time(run.created_at),
        "started_at": native_time(run.started_at),
        "finished_at": native_time(run.finished_at),
        "seconds": facts.seconds,
        "token_usage": run.token_usage,
    }
