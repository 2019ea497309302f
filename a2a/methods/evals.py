"""Methods for experiments: run versions of a flow on a data set, and compare their scores."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from a2a.core.mapping import native_time
from a2a.core.parsing import Params, Problem, Text
from a2a.methods.execute import STARTS_ANOTHER, Starts, executed, replied, start
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, Tool, method
from a2a.methods.params import FlowName, Tag, Version
from a2a.methods.responses import Execution, RunStatus
from a2a.methods.results import DataResult, TaskResult
from a2a.methods.task_schemas import ANY_LIMIT, Budget
from accounts.callers import Caller
from llmkeys.providers import SentKey
from tasks.models import Experiment as Row
from tasks.models import Run
from tasks.rules import exceptions as errors
from tasks.rules.intervals import Estimate as Found
from tasks.rules.strict_json import Json
from tasks.services.evals import experiments, results
from tasks.services.trees.idempotency import Token
from tasks.status import Status


class Evaluator(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, rename={"with_": "with"}):
    """A score that each result gets: the name of it, and how it is found."""

    name: Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_.-]{1,64}$"})]
    with_: Literal["exact"] | Annotated[dict[str, Any], Meta(min_length=1, max_length=1)]
    """`exact`, `{"exact": {"path": "/text"}}`, `{"expression": "…"}`, `{"schema": {…}}`, `{"judge": {"rubric": "…", "model": "…", "scale": [1, 5]}}`, `{"pair_judge": {"rubric": "…", "model": "…"}}` or `{"person": {"question": "…", "pair": true, "assignees": ["…"], "only_if": "…"}}`. A judge and a person have `scale` or `categories`, or say yes or no."""
    better: Literal["higher", "lower"] | UnsetType = UNSET
    """The better one of two scores. Default: the higher."""


Name = Annotated[str, Meta(min_length=1, max_length=64)]


class GivenVariant(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A version of the flow (default: the newest) in which inputs of its tasks are others: of those that run `llm_executor`, or of one `task`.

    `model`, `system` (the system prompt), `prompt` and `temperature` are inputs of `llm_executor`; `inputs` has any others. The `inputs` of
    a workflow are its arguments, and it has no other fields but `name`.
    """

    name: Name | UnsetType = UNSET
    """Default: what it changes."""
    version: Version | UnsetType = UNSET
    task: Text | UnsetType = UNSET
    model: Text | UnsetType = UNSET
    system: Text | UnsetType = UNSET
    prompt: Text | UnsetType = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    inputs: Json | UnsetType = UNSET


class RunExperiment(Starts, frozen=True, kw_only=True):
    """evals.run"""

    dataset: FlowName
    evaluators: Annotated[list[Evaluator], Meta(min_length=1, max_length=10)]
    dataset_version: Version | None = None
    """Default: the newest one."""
    flow: FlowName | None = None
    """Default: that of the data set."""
    workflow: Text | None = None
    """The name of a workflow, instead of a flow."""
    versions: (
        Annotated[list[Version], Meta(min_length=1, max_length=5, extra_json_schema={"uniqueItems": True})] | None
    ) = None
    """The versions of the flow. Each further one is compared with the first. Default: the newest two, or the only one."""
    split: Tag | None = None
    """Only the rows with this tag, such as `test`. Default: all."""
    variants: Annotated[list[GivenVariant], Meta(min_length=1, max_length=5)] | None = None
    """Instead of `versions`: what is compared."""
    seed: int | None = None
    """The seed of all tasks that run `llm_executor`, in all variants."""
    cache: Text | None = None
    """The greatest age, such as `1d`, of results that tasks take from the cache, where they may and the flow says nothing else."""
    budget: Annotated[Budget, Meta(extra_json_schema=ANY_LIMIT)] | None = None
    """The budget of the run, with all runs of the flow."""
    repeats: Annotated[int, Meta(ge=1, le=100)] = 1
    """The runs of each version for each row."""
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 10
    """The most runs of the flow that are in progress at a time."""

    def contradictions(self) -> list[Problem]:
        found = [("last_event_id", STARTS_ANOTHER)] if self.last_event_id is not None else []
        if self.use_demo:
            found.append(("use_demo", "has nothing to score: executors return their example results"))
        if self.versions is not None and len({*self.versions}) < len(self.versions):
            found.append(("versions", "names one version twice"))
        if self.versions is not None and self.variants is not None:
            found.append(("versions", "cannot be combined with variants: set the version of each variant"))
        if self.cache is not None and self.repeats > 1:
            found.append(("cache", "is given with repeats: each repeat would take the result of the first"))
        return [*super().contradictions(), *found]


class GetExperiment(Params, frozen=True, kw_only=True):
    """evals.get"""

    experiment_id: Text
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    """The number of cases."""
    cursor: str | None = None
    order: Literal["disagreement", "worse"] = "disagreement"
    """The order of the cases: first those in which the versions differ most, or those in which a further one is worse than the first."""


class ListExperiments(Params, frozen=True, kw_only=True):
    """evals.list"""

    user_id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class Experiment(Response, frozen=True, kw_only=True):
    """An experiment. Its id is that of the root of its tree, and `status` that of the latest run of it. `split` is the tag of the rows that were used; null if all were."""

    id: str
    user_id: str
    dataset: str
    dataset_version: int
    flow: str
    """`workflow:NAME` for a workflow."""
    versions: list[int | None]
    """A version for each variant; null for a workflow."""
    names: list[str]
    """The names of the variants."""
    evaluators: list[Evaluator]
    repeats: int
    cases: int
    split: str | None
    status: RunStatus | None
    created_at: str


class Estimate(Response, frozen=True, kw_only=True):
    """A mean over `cases`, and the ends of its 95 % confidence interval; both are null with fewer than two cases."""

    mean: float
    low: float | None
    high: float | None
    cases: int


class VariantScore(Response, frozen=True, kw_only=True):
    """The scores of one evaluator: the mean by case (null without a number), how many runs were scored, and were not although they are over, and how often each category occurs."""

    estimate: Estimate | None
    scored: int
    not_scored: int
    categories: dict[str, int]


class Variant(Response, frozen=True, kw_only=True):
    """A variant: how many of its runs were evaluated (`completed`), failed or are unfinished, what they used, and their mean duration.

    `changes` are the inputs that it changes, of the `task` or of those that run a language model. `cost_usd` is null if no call has a known
    price.
    """

    name: str
    version: int | None
    changes: Json
    task: str | UnsetType = UNSET
    completed: int
    failed: int
    unfinished: int
    total_tokens: int
    cost_usd: float | None
    seconds: float | None
    scores: dict[str, VariantScore]


class Difference(Response, frozen=True, kw_only=True):
    """A further `variant`, which is named, minus the first one in a score, by case. `text` says it in words."""

    evaluator: str
    variant: str
    estimate: Estimate | None
    text: str


class Slice(Response, frozen=True, kw_only=True):
    """The cases with a tag: their mean score by evaluator for each variant, in their order; null without a number."""

    tag: str
    cases: int
    means: dict[str, list[float | None]]


class Score(Response, frozen=True, kw_only=True):
    """A number, a boolean or a category; null if it was not scored. `reason` says why it is null or false, where that is known."""

    value: float | bool | str | None
    reason: str | None


class CaseRun(Response, frozen=True, kw_only=True):
    """A run of a variant, which is named, for a case. `task_id` is the root of its tree; null if there is none, or no longer. `status` is that of its evaluation."""

    variant: str
    version: int | None
    repeat: int
    status: Status
    task_id: str | None
    scores: dict[str, Score]


class ExperimentCase(Response, frozen=True, kw_only=True):
    """A row of the data set, its `number` from 0, and its runs. `disagreement` is the largest difference of the versions in a score."""

    number: int
    inputs: Json
    expected: Any | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    disagreement: float | None
    runs: list[CaseRun]


class ExperimentResult(Experiment, frozen=True, kw_only=True):
    """The result of an experiment so far, with a page of its cases. `slices` are by tag, those of most cases first, at most 20. `questions` counts those to people that are open."""

    questions: int
    variants: list[Variant]
    differences: list[Difference]
    slices: list[Slice]
    results: list[ExperimentCase]
    next_cursor: str | None


class Experiments(Response, frozen=True, kw_only=True):
    """A page of experiments, newest first. `next_cursor` is null on the last page."""

    experiments: list[Experiment]
    next_cursor: str | None


@method(
    "evals.run",
    role=OPERATOR,
    answer=Execution,
    rest=[
        Rest(
            "runExperiment",
            "POST evals/",
            answers={200: Execution, 202: Execution},
            answered=executed,
            errors=(errors.DatasetNotFound, errors.FlowNotFound, errors.LimitReached),
            without=frozenset({"last_event_id", "use_demo", "use_streaming"}),
            rules={"required": ["dataset", "evaluators"]},
        )
    ],
)
async def run(
    caller: Caller, given: RunExperiment, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Run versions or variants of a flow on the rows of a data set, and score what they return. Replies at once, unless `wait` is set."""
    execution = await start(
        caller,
        given,
        experiments.run_experiment,
        token=token,
        llm_key=llm_key,
        dataset=given.dataset,
        dataset_version=given.dataset_version,
        flow=given.flow,
        workflow=given.workflow,
        versions=given.versions,
        split=given.split,
        variants=None if given.variants is None else to_builtins(given.variants),
        seed=given.seed,
        cache=given.cache,
        budget=None if given.budget is None else to_builtins(given.budget),
        evaluators=[to_builtins(each) for each in given.evaluators],
        repeats=given.repeats,
        at_once=given.at_once,
    )
    return await replied(caller, given, execution)


@method(
    "evals.get",
    role=VIEWER,
    answer=ExperimentResult,
    rest=[Rest("getExperiment", "GET evals/<experiment_id>/")],
    tool=Tool(
        "get_experiment",
        "Get the result of an experiment",
        "Compare versions of a flow: their scores with confidence intervals, the difference in words, and the cases in which they differ most.",
    ),
)
def get(caller: Caller, given: GetExperiment) -> DataResult:
    """Return what an experiment has found: scores with intervals, the difference in words, and its cases, by disagreement."""
    found = results.get_result(
        caller=caller,
        experiment_id=given.experiment_id,
        limit=given.limit,
        cursor=given.cursor,
        order=given.order,
    )
    native = _native(found.experiment, found.run) | {
        "questions": found.questions,
        "variants": [
            _variant(each) | (stored or {"changes": {}})
            for each, stored in zip_longest(found.variants, found.experiment.variants)
        ],
        "differences": [
            {
                "evaluator": each.evaluator,
                "variant": each.variant,
                "estimate": _estimate(each.estimate),
                "text": each.text,
            }
            for each in found.differences
        ],
        "slices": [asdict(each) for each in found.slices],
        "results": [native_case(each, found.experiment.names) for each in found.cases],
        "next_cursor": found.next_cursor,
    }
    return DataResult(native=native)


@method("evals.list", role=VIEWER, answer=Experiments, rest=[Rest("listExperiments", "GET evals/")])
def list_experiments(caller: Caller, given: ListExperiments) -> DataResult:
    """Return a page of experiments, newest first, without their results."""
    listed, cursor = experiments.list_experiments(
        caller=caller, user_id=given.user_id, limit=given.limit, cursor=given.cursor
    )
    return DataResult(native={"experiments": [_native(*each) for each in listed], "next_cursor": cursor})


def _native(experiment: Row, run: Run | None) -> Json:
    return {
        "id": experiment.id,
        "user_id": experiment.user_id,
        "dataset": experiment.dataset,
        "dataset_version": experiment.dataset_version,
        "flow": experiment.flow,
        "versions": experiment.versions,
        "names": experiment.names,
        "evaluators": experiment.evaluators,
        "repeats": experiment.repeats,
        "cases": experiment.cases,
        "split": experiment.split or None,
        "status": run and run.status,
        "created_at": native_time(experiment.created_at),
    }


def _estimate(found: Found | None) -> Json | None:
    return None if found is None else asdict(found)


def _variant(variant: results.Variant) -> Json:
    scores = {
        name: {
            "estimate": _estimate(each.estimate),
            "scored": each.scored,
            "not_scored": each.not_scored,
            "categories": each.categories,
        }
        for name, each in variant.scores.items()
    }
    return {
        "name": variant.name,
        "version": variant.version,
        "completed": variant.completed,
        "failed": variant.failed,
        "unfinished": variant.unfinished,
        "total_tokens": variant.total_tokens,
        "cost_usd": variant.cost_usd,
        "seconds": variant.seconds,
        "scores": scores,
    }


def native_case(case: results.Case, names: Sequence[str]) -> Json:
    """Return a case as it is on the wire, with the names of the variants."""
    runs = [
        {
            "variant": names[each.variant],
            "version": each.version,
            "repeat": each.repeat,
            "status": each.status,
            "task_id": each.root_id,
            "scores": {name: {"value": score.value, "reason": score.reason} for name, score in each.scores.items()},
        }
        for each in case.runs
    ]
    return {"number": case.number, **case.row, "disagreement": case.disagreement, "runs": runs}
