"""The pages of experiments: the list, one with its scores, differences and cases, one case, and the experiments of a flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest
from django.urls import reverse

from accounts.callers import Caller
from tasks.dashboard.flows import address_of, chosen
from tasks.dashboard.pages import Context, read_page
from tasks.models import Experiment
from tasks.rules.exceptions import InvalidParams
from tasks.rules.intervals import Estimate
from tasks.services.evals.experiments import list_experiments
from tasks.services.evals.results import (
    DISAGREEMENT,
    ORDERS,
    Case,
    CaseRun,
    Result,
    Score,
    Variant,
    get_case,
    get_result,
    history,
    is_lower_better,
)
from tasks.services.flows import get_flow

PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One score of one variant in words: the mean with its interval or the categories, and how many runs were not scored."""

    text: str
    interval: str
    not_scored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One evaluator: its score for each variant, and what the differences say."""

    name: str
    is_lower_better: bool
    measured: Sequence[Measured]
    differences: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A run of a case: the root of its tree, and each of its scores as text, with the reason."""

    run: CaseRun
    scores: Sequence[tuple[str, str, Score]]


@read_page("dashboard/experiments.html")
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/experiments/`: the experiments that the caller may see, newest first."""
    cursor = request.GET.get("cursor", "")
    rows, next_cursor = list_experiments(caller=caller, limit=PAGE, cursor=cursor or None)
    return {"place": "flows", "rows": rows, "next_cursor": next_cursor, "cursor": cursor}


@read_page("dashboard/experiment.html")
def experiment(request: HttpRequest, caller: Caller, experiment_id: str) -> Context:
    """`GET /ui/experiments/{id}/`: one experiment with a page of its cases, those in which its variants differ most first."""
    cursor, order = request.GET.get("cursor", ""), request.GET.get("order", DISAGREEMENT)
    if order not in ORDERS:
        raise InvalidParams([("order", f"must be one of {', '.join(ORDERS)}")])
    found = get_result(caller=caller, experiment_id=experiment_id, limit=PAGE, cursor=cursor or None, order=order)
    names = [each["name"] for each in found.experiment.evaluators]
    sliced = [name for name in names if any(mean is not None for each in found.slices for mean in each.means[name])]
    return {
        "place": "flows",
        "experiment": found.experiment,
        "run": found.run,
        "is_over": found.run is not None and found.run.finished_at is not None,
        "has_failed": any(each.failed for each in found.variants),
        "questions": found.questions,
        "variants": found.variants,
        "changes": [(each["name"], each["changes"]) for each in found.experiment.variants if each["changes"]],
        "lines": [_line(found, name) for name in names],
        "has_lower": any(is_lower_better(found.experiment, name) for name in names),
        "sliced": sliced,
        "slices": [(each, [each.means[name] for name in sliced]) for each in found.slices],
        "cases": [(case, _cells(case, found.variants)) for case in found.cases],
        "order": order,
        "cursor": cursor,
        "next_cursor": found.next_cursor,
        "address": reverse("dashboard:experiment", args=[found.experiment.id]),
    }


def _line(found: Result, name: str) -> Line:
    measured = []
    for variant in found.variants:
        score = variant.scores[name]
        counted = ", ".join(f"{word} {count:,}" for word, count in score.categories.items())
        text = counted or ("–" if score.estimate is None else f"{score.estimate.mean:.2f}")
        interval = "" if counted else _interval(score.estimate)
        measured.append(Measured(text=text, interval=interval, not_scored=score.not_scored))
    differences = [each.text for each in found.differences if each.evaluator == name]
    lower = is_lower_better(found.experiment, name)
    return Line(name=name, is_lower_better=lower, measured=measured, differences=differences)


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.2f} to {estimate.high:.2f}"


def _cells(case: Case, variants: Sequence[Variant]) -> list[tuple[Variant, list[Cell]]]:
    """Return each variant with its runs."""
    return [
        (variant, [_cell(run) for run in case.runs if run.variant == place]) for place, variant in enumerate(variants)
    ]


def _cell(run: CaseRun) -> Cell:
    return Cell(run=run, scores=[(name, _shown(score.value), score) for name, score in run.scores.items()])


@read_page("dashboard/case.html")
def case(request: HttpRequest, caller: Caller, experiment_id: str, number: int) -> Context:
    """`GET /ui/experiments/{id}/{row}/`: the answers of all variants to one row, side by side; rows are counted from 1."""
    experiment, found, answers = get_case(caller=caller, experiment_id=experiment_id, number=number - 1)
    names = experiment.names
    cells = [(_cell(run), names[run.variant], answer) for run, answer in zip(found.runs, answers, strict=True)]
    return {"place": "flows", "experiment": experiment, "case": found, "number": number, "cells": cells}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A version on a data set: the newest experiment with both, and its mean scores; none if they are too many to read."""

    experiment: Experiment
    scores: Sequence[tuple[str, float | None]]


@read_page("dashboard/flow_experiments.html")
def flow_history(request: HttpRequest, caller: Caller, name: str) -> Context:
    """`GET /ui/flows/{name}/experiments/`: the versions of a flow on its data sets, and the experiments, newest first."""
    flow = get_flow(caller=caller, name=name, user_id=chosen(request)["user_id"])
    tried: dict[tuple[str, str], dict[int, Tried]] = {}
    found = history(caller=caller, flow=flow.name, user_id=flow.user_id)
    for experiment, means in found:
        of_set = tried.setdefault((experiment.dataset, experiment.split), {})
        changed = [each["changes"] for each in experiment.variants] or [{}] * len(experiment.versions)
        for place, version in enumerate(experiment.versions):
            if changed[place]:  # it is no longer that version
                continue
            scores = [(evaluator, columns[place]) for evaluator, columns in (means or {}).items()]
            of_set.setdefault(version, Tried(experiment=experiment, scores=scores))
    versions = sorted({version for of_set in tried.values() for version in of_set}, reverse=True)
    return {
        "place": "flows",
        "flow": flow,
        "flow_address": address_of(caller, flow),
        "sets": list(tried),
        "lines": [(version, [of_set.get(version) for of_set in tried.values()]) for version in versions],
        "experiments": [experiment for experiment, _ in found],
    }


def _shown(value: Any) -> str:
    if value is None:
        return "not scored"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.4g}"
