"""The result of an experiment: its scores with intervals, the difference of its variants, and its cases sorted by disagreement.

All of it is computed from the tasks of the tree, of which there are at most `limits.spawned_tasks`: from columns of scores, one for each evaluator,
which have a place for each run of the flow. Objects are made for the cases of a page only.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, NamedTuple

from django.db.models import Avg, F, Q, QuerySet, Sum

from accounts.callers import Caller
from tasks.executors.compare import ID as COMPARE
from tasks.executors.compare import WAITS
from tasks.executors.evaluate import COMPARING, LOWER, is_of
from tasks.executors.evaluate import ID as EVALUATE
from tasks.executors.judging import APPROVAL, answered
from tasks.models import Experiment, Question, Run, Task
from tasks.rules.exceptions import ExperimentNotFound, InvalidParams
from tasks.rules.intervals import Estimate, estimate, in_words
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.services.evals.experiments import ANSWER, COMPARING_TASK, OF_CASE, RUN_TREE, SCORE, get_experiment
from tasks.services.trees.queries import NOT_A_CURSOR, latest_runs
from tasks.status import TERMINAL, Status, WaitKind
from tasks.storage import loads

NOT_OVER: Final = "It has not run yet."
NO_SCORE: Final = "The evaluation returned no score of this name."
NOTHING: Final[Json] = {"value": None, "reason": NO_SCORE}
DISAGREEMENT: Final = "disagreement"
WORSE: Final = "worse"
ORDERS: Final = (DISAGREEMENT, WORSE)
MOST_SLICES: Final = 20
"""The number of tags whose scores are compared: those of most cases."""
AT_ONCE: Final = 500
"""The cases of a part of an export."""
MOST_COMPARED: Final = 30
"""The experiments of a history."""
MOST_READ: Final = 10_000
"""The runs of a flow whose scores a history reads."""
Means = Sequence[Sequence[float | None]]
"""The mean score of each case, for each variant; None without a number."""


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
    """One run of a variant for a case. `root_id` is the root of its tree; None if there is none."""

    variant: int
    """The place of its variant."""
    version: int | None
    repeat: int
    status: str
    root_id: str | None
    scores: dict[str, Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the data set (`number` from 0), and its runs. `disagreement` is the largest difference of the variants in a score."""

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
    """A variant: how many of its runs ended how, what they used, and their mean duration in seconds. A workflow has no `version`."""

    name: str
    version: int | None
    completed: int
    failed: int
    unfinished: int
    total_tokens: int
    cost_usd: float | None
    seconds: float | None
    scores: dict[str, VariantScore]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A further variant minus the first, over the cases that both have a score of. `text` says it in words."""

    evaluator: str
    variant: str
    estimate: Estimate | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The cases with a tag: their mean score by evaluator for each variant, None without a number."""

    tag: str
    cases: int
    means: dict[str, list[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An experiment with a page of its cases. `run` is the latest one of its tree."""

    experiment: Experiment
    run: Run | None
    variants: list[Variant]
    differences: list[Difference]
    slices: list[Slice]
    cases: list[Case]
    questions: int
    """The questions to people that are open."""
    next_cursor: str | None


class Scoring(NamedTuple):
    """A task that scores a run of the flow, compares those of an item, or asks a person. `error` is its own."""

    id: str
    status: str
    error: str | None
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The contents of the tree of an experiment. The run of variant `v` for `items[i]` is at place `i * size + v`, in each column too.

    `groups` has the items of each case, which are its repeats, by the number of its row. `comparings` has a task for each item, and `asked` the
    questions to people by item and evaluator.
    """

    experiment: Experiment
    items: Sequence[Json]
    groups: Mapping[int, Sequence[int]]
    scorings: Sequence[Scoring | None]
    comparings: Sequence[Scoring | None]
    asked: Mapping[tuple[int, str], tuple[Scoring, str | None]]
    columns: Mapping[str, Sequence[Any]]

    @property
    def size(self) -> int:
        return len(self.experiment.versions)

    def means(self, name: str) -> Means:
        numbers = [None if value is None or isinstance(value, str) else float(value) for value in self.columns[name]]
        if len(self.groups) == len(self.items):  # each case ran once
            return [numbers[variant :: self.size] for variant in range(self.size)]
        return [
            [_mean([numbers[item * self.size + variant] for item in items]) for items in self.groups.values()]
            for variant in range(self.size)
        ]

    def words(self, variant: int, items: Sequence[int], name: str) -> set[Any]:
        return {self.columns[name][item * self.size + variant] for item in items}


def get_result(
    *, caller: Caller, experiment_id: str, limit: int = 100, cursor: str | None = None, order: str = DISAGREEMENT
) -> Result:
    """Return what an experiment has found so far, with a page of its cases: first those in which its variants differ most, or a further one is worse than the first.

    Raises ExperimentNotFound, InvalidParams for an invalid cursor, or ResponseTooLarge.
    """
    first = 0
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
            raise InvalidParams([NOT_A_CURSOR])
        first = int(cursor)
    experiment = get_experiment(caller=caller, experiment_id=experiment_id)
    found = _found(experiment)
    means = {name: found.means(name) for name in found.columns}
    disagreements = _disagreements(found, means)
    ranks = disagreements if order == DISAGREEMENT else _losses(experiment, means, len(found.groups))
    ordered = sorted(zip(ranks, found.groups, strict=True), key=lambda each: (-(each[0] or 0), each[1]))
    by_number = dict(zip(found.groups, disagreements, strict=True))
    page = [number for _, number in ordered[first : first + limit]]
    return Result(
        experiment=experiment,
        run=latest_runs(caller=caller, root_ids=[experiment.id]).get(experiment.id),
        variants=_variants(found, means),
        differences=_differences(found, means),
        slices=_slices(found, means),
        cases=_cases(found, {number: by_number[number] for number in page}),
        questions=Question.objects.waiting().filter(run__root_id=experiment.id).count(),
        next_cursor=str(first + limit) if first + limit < len(ordered) else None,
    )


def get_case(*, caller: Caller, experiment_id: str, number: int) -> tuple[Experiment, Case, list[Any]]:
    """Return an experiment, one of its cases, and the answer of each of its runs (None without one).

    Raises ExperimentNotFound, also if it has no such case, or ResponseTooLarge.
    """
    experiment = get_experiment(caller=caller, experiment_id=experiment_id)
    found = _found(experiment)
    if number not in found.groups:
        raise ExperimentNotFound(f"{experiment_id}, row {number + 1:,}")
    means = {name: found.means(name) for name in found.columns}
    by_number = dict(zip(found.groups, _disagreements(found, means), strict=True))
    (case,) = _cases(found, {number: by_number[number]})
    tasks = [found.scorings[place] for place in _places(found, number)]
    answers = _added(experiment).filter(executor_id=RUN_TREE, parent_id__in=[each.id for each in tasks if each])
    loads.spend_on(answers, "result")
    results = dict(answers.values_list("parent_id", "result"))
    return experiment, case, [None if each is None else results.get(each.id) for each in tasks]


def exported(*, caller: Caller, experiment_id: str) -> tuple[Experiment, list[str], Iterator[list[Case]]]:
    """Return an experiment, the names of the inputs of its cases, and all cases in the order of the rows, some at a time.

    Raises ExperimentNotFound or ResponseTooLarge.
    """
    experiment = get_experiment(caller=caller, experiment_id=experiment_id)
    found = _found(experiment)
    means = {name: found.means(name) for name in found.columns}
    cases = [*zip(found.groups, _disagreements(found, means), strict=True)]
    names = dict.fromkeys(name for item in found.items for name in item["inputs"])
    pages = (_cases(found, dict(cases[first : first + AT_ONCE])) for first in range(0, len(cases), AT_ONCE))
    return experiment, [*names], pages


def history(
    *, caller: Caller, flow: str, user_id: str
) -> list[tuple[Experiment, dict[str, list[float | None]] | None]]:
    """Return the newest experiments with a flow of a user, each with the mean scores of its variants by evaluator; None if these are too many to read."""
    rows = Experiment.objects.for_caller(caller).filter(user_id=user_id, flow=flow).order_by("-created_at", "-id")
    seen, left = [], MOST_READ
    for experiment in rows[:MOST_COMPARED]:
        runs = experiment.cases * experiment.repeats * len(experiment.versions)
        means = None
        if runs <= left:
            left -= runs
            found = _found(experiment)
            means = {name: [_mean(column) for column in found.means(name)] for name in found.columns}
        seen.append((experiment, means))
    return seen


def _found(experiment: Experiment) -> Found:
    root, added = Task.objects.filter(id=experiment.id), _added(experiment)
    scoring = added.filter(executor_id=EVALUATE, label__startswith=SCORE)
    comparing = added.filter(executor_id=COMPARE, label=COMPARING_TASK)
    asking = Task.objects.filter(root_id=experiment.id, executor_id=APPROVAL).exclude(spawned_by=None)
    loads.spend_on(root, "params")
    for tasks in (scoring, comparing, asking):
        loads.spend_on(tasks, "result", "error")
    items = ((root.values_list("params", flat=True).first() or {}).get("for_each") or {}).get("items") or []
    groups: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(item["number"], []).append(place)
    size = len(experiment.versions)
    scorings: list[Scoring | None] = [None] * (len(items) * size)
    # The tasks of the items follow each other, so the rank of a task among those of its label says whose it is.
    ranks = Counter[int]()
    for label, *values in scoring.order_by("position").values_list("label", *Scoring._fields):
        variant = int((label or "").removeprefix(SCORE))
        scorings[ranks[variant] * size + variant] = Scoring._make(values)
        ranks[variant] += 1
    comparings: list[Scoring | None] = [None] * len(items)
    item_of = {}
    for number, values in enumerate(comparing.order_by("position").values_list(*Scoring._fields)):
        comparings[number] = Scoring._make(values)
        item_of[values[0]] = number
    answers = Question.objects.filter(run__root_id=experiment.id, kind=WaitKind.QUESTION).exclude(comment=None)
    comments = (
        dict(answers.values_list("task_id", "comment"))
        if any(is_of(each, "person") for each in experiment.evaluators)
        else {}
    )
    asked = {
        (item_of[spawner or ""], label or ""): (Scoring._make(values), comments.get(values[0]))
        for spawner, label, *values in asking.values_list("spawned_by", "label", *Scoring._fields)
        if spawner in item_of
    }
    results = [None if each is None or not isinstance(each.result, dict) else each.result for each in scorings]
    columns: dict[str, Sequence[Any]] = {}
    found = Found(
        experiment=experiment,
        items=items,
        groups=groups,
        scorings=scorings,
        comparings=comparings,
        asked=asked,
        columns=columns,
    )
    for each in experiment.evaluators:
        name = each["name"]
        if is_of(each, *COMPARING):
            columns[name] = [_score(found, place, each, None).value for place in range(len(scorings))]
        else:
            columns[name] = [((result or {}).get(name) or NOTHING)["value"] for result in results]
    return found


def _added(experiment: Experiment) -> QuerySet[Task]:
    """Return the tasks that the map has added for its items."""
    return Task.objects.filter(root_id=experiment.id, spawned_by=experiment.id)


def _places(found: Found, number: int) -> list[int]:
    """Return the places of the runs of a case: those of a repeat follow each other."""
    return [item * found.size + variant for item in found.groups[number] for variant in range(found.size)]


def _cases(found: Found, disagreements: Mapping[int, float | None]) -> list[Case]:
    """Return these cases, with what only a page shows: why a run was not scored, and its tree."""
    tasks = [each for number in disagreements for place in _places(found, number) if (each := found.scorings[place])]
    answers = _added(found.experiment).filter(executor_id=RUN_TREE, parent_id__in=[each.id for each in tasks])
    answer_of = dict(answers.values_list("id", "parent_id"))
    errors = dict(answers.exclude(error=None).values_list("parent_id", "error"))
    waits = Question.objects.filter(task_id__in=answer_of, run__root_id=found.experiment.id, kind=WaitKind.RUN)
    task_of = {wait_id: answer_of[task_id] for wait_id, task_id in waits.values_list("id", "task_id")}
    runs = Run.objects.filter(wait_id__in=task_of).order_by("created_at", "id").values_list("wait_id", "root_id")
    roots = {task_of[wait_id or ""]: root_id for wait_id, root_id in runs}
    there = set(Task.objects.filter(id__in=roots.values()).values_list("id", flat=True))
    cases = []
    for number, disagreement in disagreements.items():
        made = []
        for place in _places(found, number):
            item, variant = divmod(place, found.size)
            task = found.scorings[place]
            root_id = roots.get(task.id) if task else None
            made.append(
                CaseRun(
                    variant=variant,
                    version=found.experiment.versions[variant],
                    repeat=found.items[item]["repeat"],
                    status=task.status if task else Status.PENDING,
                    root_id=root_id if root_id in there else None,
                    scores={
                        each["name"]: _score(found, place, each, None if task is None else errors.get(task.id))
                        for each in found.experiment.evaluators
                    },
                )
            )
        first = found.items[found.groups[number][0]]
        row: Json = {name: first[name] for name in OF_CASE if name in first}
        cases.append(Case(number=number, row=row, runs=made, disagreement=disagreement))
    return cases


def _score(found: Found, place: int, evaluator: Json, why: str | None) -> Score:
    """Return a score of the run at a place, or why there is none. `why` is the error of the run of the flow."""
    name, (item, variant) = evaluator["name"], divmod(place, found.size)
    if not is_of(evaluator, *COMPARING):
        task = found.scorings[place]
        return _score_in(task, None if task is None else task.result, name, why)
    comparing = found.comparings[item]
    compared = None if comparing is None else comparing.result
    if (item, name) not in found.asked:
        return _score_in(comparing, compared and compared[variant], name, why)
    asked, comment = found.asked[item, name]
    if asked.status == Status.COMPLETED and compared:
        order = compared[variant][name]["order"]
        return Score(**answered(evaluator["with"]["person"], asked.result, comment, order)[variant])
    over = f"The question is {asked.status}."
    return Score(value=None, reason=asked.error or (over if asked.status in TERMINAL else WAITS))


def _score_in(task: Scoring | None, result: Any, name: str, why: str | None) -> Score:
    if isinstance(result, dict):
        found = result.get(name) or NOTHING
        return Score(value=found["value"], reason=found.get("reason"))
    if task is None or task.status not in TERMINAL:
        return Score(value=None, reason=NOT_OVER)
    return Score(value=None, reason=why or task.error or f"Its evaluation is {task.status}.")


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [each for each in values if each is not None]
    return fmean(numbers) if numbers else None


def _disagreements(found: Found, means: Mapping[str, Means]) -> list[float | None]:
    """Return the largest difference of the variants in a score of each case; None without scores of two variants."""
    most: list[float | None] = [None] * len(found.groups)
    if found.size == 1:
        return most
    for name, columns in means.items():
        has_words = any(isinstance(value, str) for value in found.columns[name])
        for place, items in enumerate(found.groups.values()):
            if has_words:
                words = [found.words(variant, items, name) for variant in range(found.size)]
                most[place] = max(most[place] or 0, float(any(each != words[0] for each in words)))
                continue
            numbers = [number for column in columns if (number := column[place]) is not None]
            if len(numbers) > 1:
                most[place] = max(most[place] or 0, max(numbers) - min(numbers))
    return most


def _losses(experiment: Experiment, means: Mapping[str, Means], cases: int) -> list[float | None]:
    """Return by how much the worst of the further variants is worse than the first in each case, in the score in which it is worst."""
    most: list[float | None] = [None] * cases
    for name, (first, *further) in means.items():
        sign = -1 if is_lower_better(experiment, name) else 1
        for column in further:
            for place, (one, other) in enumerate(zip(first, column, strict=True)):
                if one is not None and other is not None:
                    loss = sign * (one - other)
                    most[place] = loss if (before := most[place]) is None else max(before, loss)
    return most


def is_lower_better(experiment: Experiment, name: str) -> bool:
    return any(each["name"] == name and each.get("better") == LOWER for each in experiment.evaluators)


def _variants(found: Found, means: Mapping[str, Means]) -> list[Variant]:
    experiment, variants = found.experiment, []
    for place, version in enumerate(experiment.versions):
        statuses = [Status.PENDING if each is None else each.status for each in found.scorings[place :: found.size]]
        over = [status in TERMINAL for status in statuses]
        scores = {}
        for name, column in found.columns.items():
            values = column[place :: found.size]
            numbers = [each for each in means[name][place] if each is not None]
            scores[name] = VariantScore(
                estimate=estimate(numbers, seed=f"{experiment.id} {name} {place}"),
                scored=sum(value is not None for value in values),
                not_scored=sum(value is None and is_over for value, is_over in zip(values, over, strict=True)),
                categories=dict(sorted(Counter(value for value in values if isinstance(value, str)).items())),
            )
        completed = statuses.count(Status.COMPLETED)
        used = _used(experiment, place)
        is_priced = (used["model_calls"] or 0) > (used["unpriced_calls"] or 0)
        variants.append(
            Variant(
                name=experiment.names[place],
                version=version,
                completed=completed,
                failed=sum(over) - completed,
                unfinished=len(over) - sum(over),
                total_tokens=used["total_tokens"] or 0,
                cost_usd=dollars(used["cost_nanos"] or 0) if is_priced else None,
                seconds=None if used["took"] is None else max(0.0, used["took"].total_seconds()),
                scores=scores,
            )
        )
    return variants


def _used(experiment: Experiment, variant: int) -> Json:
    """Return what the runs of the flow of a variant used, and how long those took on average that completed."""
    answers = _added(experiment).filter(executor_id=RUN_TREE, label=f"{ANSWER}{variant}")
    waits = Question.objects.filter(
        run__root_id=experiment.id, kind=WaitKind.RUN, task_id__in=answers.order_by().values("id")
    )
    sums = {name: Sum(name, default=0) for name in ("model_calls", "unpriced_calls", "total_tokens", "cost_nanos")}
    took = Avg(F("finished_at") - F("started_at"), filter=Q(status=Status.COMPLETED))
    return Run.objects.filter(wait_id__in=waits.values("id")).aggregate(took=took, **sums)


def _differences(found: Found, means: Mapping[str, Means]) -> list[Difference]:
    """Return the difference of each further variant from the first in each score that has numbers, which categories are not."""
    first, *further = found.experiment.names
    differences = []
    for name, (before, *columns) in means.items():
        if any(isinstance(value, str) for value in found.columns[name]):
            continue
        is_lower = is_lower_better(found.experiment, name)
        for variant, after in zip(further, columns, strict=True):
            pairs = zip(before, after, strict=True)
            values = [other - one for one, other in pairs if one is not None and other is not None]
            paired = estimate(values, seed=f"{found.experiment.id} {name}")
            text = in_words(paired, first=first, second=variant, is_lower_better=is_lower)
            text = f"V{text[1:]}" if text.startswith("version ") else text
            differences.append(Difference(evaluator=name, variant=variant, estimate=paired, text=text))
    return differences


def _slices(found: Found, means: Mapping[str, Means]) -> list[Slice]:
    """Return the scores of the cases with each tag, those of most cases first."""
    by_tag: dict[str, list[int]] = {}
    for place, items in enumerate(found.groups.values()):
        for tag in found.items[items[0]].get("tags", ()):
            by_tag.setdefault(tag, []).append(place)
    most = sorted(by_tag.items(), key=lambda each: (-len(each[1]), each[0]))[:MOST_SLICES]
    return [
        Slice(
            tag=tag,
            cases=len(places),
            means={
                name: [_mean([column[place] for place in places]) for column in columns]
                for name, columns in means.items()
            },
        )
        for tag, places in most
    ]
