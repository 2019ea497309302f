"""The result of an experiment: its scores with intervals, the difference of its variants, and its cases sorted by disagreement.

All of it is computed from the tasks of the tree, of which there are at most `limits.spawned_tasks`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from accounts.callers import Caller
from tasks.executors.evaluate import ID as EVALUATE
from tasks.models import Experiment, Question, Run, Task
from tasks.rules.exceptions import InvalidParams
from tasks.rules.intervals import Estimate, estimate, in_words
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.services.evals.experiments import RUN_TREE, get_experiment
from tasks.services.flows.flow_lists import seconds_of
from tasks.services.trees.queries import NOT_A_CURSOR, latest_runs
from tasks.status import TERMINAL, Status, WaitKind
from tasks.storage import loads

NOT_OVER: Final = "It has not run yet."
NO_SCORE: Final = "The evaluation returned no score of this name."


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A number, a boolean or a category; None if it was not scored. `reason` says why it is None or false, where that is known."""

    value: float | bool | str | None
    reason: str | None = None

    @property
    def number(self) -> float | None:
        """The score as a number: true is 1. None for a category, and if it was not scored."""
        return None if self.value is None or isinstance(self.value, str) else float(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRun:
    """One run of the flow for a case. `root_id` is the root of its tree; None if there is none."""

    version: int
    repeat: int
    status: str
    root_id: str | None
    scores: dict[str, Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the data set (`number` from 0), and its runs. `disagreement` is the largest difference of the two variants in a score."""

    number: int
    row: Json
    runs: list[CaseRun]
    disagreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantScore:
    """The scores of one evaluator for one variant: the mean by case, how many runs have a score, and how often each category occurs."""

    estimate: Estimate | None
    scored: int
    not_scored: int
    categories: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A version of the flow: how many of its runs ended how, what they used, and their mean duration in seconds."""

    version: int
    completed: int
    failed: int
    unfinished: int
    total_tokens: int
    cost_usd: float | None
    seconds: float | None
    scores: dict[str, VariantScore]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The second variant minus the first, over the cases that both have a score of. `text` says it in words."""

    evaluator: str
    estimate: Estimate | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An experiment with a page of its cases. `run` is the latest one of its tree."""

    experiment: Experiment
    run: Run | None
    variants: list[Variant]
    differences: list[Difference]
    cases: list[Case]
    next_cursor: str | None


def get_result(*, caller: Caller, experiment_id: str, limit: int = 100, cursor: str | None = None) -> Result:
    """Return what an experiment has found so far. Raises ExperimentNotFound, InvalidParams for an invalid cursor, or ResponseTooLarge."""
    first = 0
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
            raise InvalidParams([NOT_A_CURSOR])
        first = int(cursor)
    experiment = get_experiment(caller=caller, experiment_id=experiment_id)
    names = [each["name"] for each in experiment.evaluators]
    cases = _cases(experiment, names)
    ordered = sorted(cases, key=lambda case: (-(case.disagreement or 0), case.number))
    page = ordered[first : first + limit]
    return Result(
        experiment=experiment,
        run=latest_runs(caller=caller, root_ids=[experiment.id]).get(experiment.id),
        variants=_variants(experiment, names, cases),
        differences=_differences(experiment, names, cases),
        cases=page,
        next_cursor=str(first + limit) if first + limit < len(ordered) else None,
    )


def _cases(experiment: Experiment, names: Sequence[str]) -> list[Case]:
    """Return all cases, in the order of the rows."""
    root = Task.objects.filter(id=experiment.id)
    added = Task.objects.filter(root_id=experiment.id, spawned_by=experiment.id, executor_id__in=[EVALUATE, RUN_TREE])
    loads.spend_on(root, "params")
    loads.spend_on(added.filter(executor_id=EVALUATE), "result", "error")
    items = ((root.values_list("params", flat=True).first() or {}).get("for_each") or {}).get("items") or []
    statuses, scored, errors = {}, {}, {}
    for task_id, executor_id, status, error in added.values_list("id", "executor_id", "status", "error"):
        number = _number_of(task_id)
        if executor_id == EVALUATE:
            statuses[number] = status
        if error and (executor_id == RUN_TREE or number not in errors):
            errors[number] = error
    for task_id, result in added.filter(executor_id=EVALUATE, status=Status.COMPLETED).values_list("id", "result"):
        scored[_number_of(task_id)] = result
    roots = _roots(experiment)
    by_case = defaultdict[int, list[CaseRun]](list)
    rows: dict[int, Json] = {}
    for place, item in enumerate(items):
        status = statuses.get(place, Status.PENDING)
        rows[item["number"]] = {name: item[name] for name in ("inputs", "expected", "tags") if name in item}
        by_case[item["number"]].append(
            CaseRun(
                version=item["version"],
                repeat=item["repeat"],
                status=status,
                root_id=roots.get(place),
                scores={name: _score(scored.get(place), name, status, errors.get(place)) for name in names},
            )
        )
    return [
        Case(number=number, row=rows[number], runs=runs, disagreement=_disagreement(experiment, names, runs))
        for number, runs in by_case.items()
    ]


def _number_of(task_id: str) -> int:
    """Return the index of the item that a copy of the template was made for: 3 of `score[3]`."""
    return int(task_id.rpartition("[")[2].rstrip("]"))


def _runs(experiment: Experiment) -> Iterable[tuple[int, Run]]:
    """Yield the runs of the flow, oldest first, each with the index of its item. One that failed and ran again has several."""
    waits = Question.objects.filter(run__root_id=experiment.id, kind=WaitKind.RUN)
    tasks = dict(waits.values_list("id", "task_id"))
    used = ("id", "root_id", "wait_id", "status", "started_at", "finished_at", "model_calls", "unpriced_calls")
    runs = Run.objects.filter(wait_id__in=waits.values("id")).order_by("created_at", "id")
    for run in runs.only(*used, "flow_version", "total_tokens", "cost_nanos"):
        if run.wait_id in tasks:  # else it began after the first query
            yield _number_of(tasks[run.wait_id]), run


def _roots(experiment: Experiment) -> dict[int, str]:
    """Map the index of each item to the root of the newest run of its flow, if that is still there."""
    newest = {number: run.root_id for number, run in _runs(experiment)}
    there = set(Task.objects.filter(id__in=_trees(experiment)).values_list("id", flat=True))
    return {number: root_id for number, root_id in newest.items() if root_id in there}


def _trees(experiment: Experiment) -> Any:
    waits = Question.objects.filter(run__root_id=experiment.id, kind=WaitKind.RUN)
    return Run.objects.filter(wait_id__in=waits.values("id")).values("root_id")


def _score(result: Any, name: str, status: str, error: str | None) -> Score:
    if isinstance(result, dict):
        found = result.get(name) or {"value": None, "reason": NO_SCORE}
        return Score(value=found["value"], reason=found.get("reason"))
    return Score(value=None, reason=(error or f"Its evaluation is {status}.") if status in TERMINAL else NOT_OVER)


def _means(runs: Sequence[CaseRun], version: int, name: str) -> float | None:
    """Return the mean score of a case over its repeats; None without a number."""
    found = [each.scores[name].number for each in runs if each.version == version]
    numbers = [each for each in found if each is not None]
    return fmean(numbers) if numbers else None


def _disagreement(experiment: Experiment, names: Sequence[str], runs: Sequence[CaseRun]) -> float | None:
    if len(experiment.versions) < 2:
        return None
    first, second = experiment.versions
    found = []
    for name in names:
        one, other = _means(runs, first, name), _means(runs, second, name)
        if one is not None and other is not None:
            found.append(abs(other - one))
        words = {
            version: {each.scores[name].value for each in runs if each.version == version}
            for version in experiment.versions
        }
        if any(isinstance(each, str) for values in words.values() for each in values):
            found.append(float(words[first] != words[second]))
    return max(found, default=None)


def _variants(experiment: Experiment, names: Sequence[str], cases: Sequence[Case]) -> list[Variant]:
    runs_of = defaultdict[int, list[Run]](list)
    for _, run in _runs(experiment):
        runs_of[run.flow_version or 0].append(run)
    variants = []
    for version in experiment.versions:
        own = [each for case in cases for each in case.runs if each.version == version]
        runs = runs_of[version]
        completed = [seconds_of(run) for run in runs if run.status == Status.COMPLETED]
        durations = [each for each in completed if each is not None]
        is_priced = any((run.model_calls or 0) > (run.unpriced_calls or 0) for run in runs)
        scores = {}
        for name in names:
            values = [each.scores[name].value for each in own]
            means = [_means(case.runs, version, name) for case in cases]
            scores[name] = VariantScore(
                estimate=estimate(
                    [each for each in means if each is not None], seed=f"{experiment.id} {name} {version}"
                ),
                scored=sum(value is not None for value in values),
                not_scored=sum(each.scores[name].value is None and each.status in TERMINAL for each in own),
                categories=dict(sorted(Counter(value for value in values if isinstance(value, str)).items())),
            )
        variants.append(
            Variant(
                version=version,
                completed=sum(each.status == Status.COMPLETED for each in own),
                failed=sum(each.status in TERMINAL and each.status != Status.COMPLETED for each in own),
                unfinished=sum(each.status not in TERMINAL for each in own),
                total_tokens=sum(run.total_tokens or 0 for run in runs),
                cost_usd=dollars(sum(run.cost_nanos or 0 for run in runs)) if is_priced else None,
                seconds=fmean(durations) if durations else None,
                scores=scores,
            )
        )
    return variants


def _differences(experiment: Experiment, names: Sequence[str], cases: Sequence[Case]) -> list[Difference]:
    """Return the difference in each score that has numbers: none with one variant, or for categories."""
    if len(experiment.versions) < 2:
        return []
    first, second = experiment.versions
    found = []
    for name in names:
        if any(isinstance(run.scores[name].value, str) for case in cases for run in case.runs):
            continue
        pairs = [(_means(case.runs, first, name), _means(case.runs, second, name)) for case in cases]
        values = [other - one for one, other in pairs if one is not None and other is not None]
        paired = estimate(values, seed=f"{experiment.id} {name}")
        text = in_words(paired, first=f"version {first:,}", second=f"version {second:,}")
        found.append(Difference(evaluator=name, estimate=paired, text=text[:1].upper() + text[1:]))
    return found
