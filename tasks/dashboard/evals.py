"""The pages of experiments: the list, and one with its scores, the difference of its versions, and its cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest
from django.urls import reverse

from accounts.callers import Caller
from tasks.dashboard.pages import Context, read_page
from tasks.rules.intervals import Estimate
from tasks.services.evals.experiments import list_experiments
from tasks.services.evals.results import Case, CaseRun, Result, Score, Variant, get_result

PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One score of one version in words: the mean with its interval or the categories, and how many runs were not scored."""

    version: int
    text: str
    interval: str
    not_scored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One evaluator: its score for each version, and what the difference says."""

    name: str
    measured: Sequence[Measured]
    difference: str


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
    """`GET /ui/experiments/{id}/`: one experiment with a page of its cases, those in which its versions differ most first."""
    cursor = request.GET.get("cursor", "")
    found = get_result(caller=caller, experiment_id=experiment_id, limit=PAGE, cursor=cursor or None)
    names = [each["name"] for each in found.experiment.evaluators]
    return {
        "place": "flows",
        "experiment": found.experiment,
        "run": found.run,
        "is_over": found.run is not None and found.run.finished_at is not None,
        "has_failed": any(each.failed for each in found.variants),
        "variants": found.variants,
        "lines": [_line(found, name) for name in names],
        "cases": [(case, _cells(case, found.variants)) for case in found.cases],
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
        measured.append(Measured(version=variant.version, text=text, interval=interval, not_scored=score.not_scored))
    difference = next((each.text for each in found.differences if each.evaluator == name), "")
    return Line(name=name, measured=measured, difference=difference)


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.2f} to {estimate.high:.2f}"


def _cells(case: Case, variants: Sequence[Variant]) -> list[list[Cell]]:
    """Return the runs of each version."""
    return [
        [
            Cell(run=run, scores=[(name, _shown(score.value), score) for name, score in run.scores.items()])
            for run in case.runs
            if run.version == variant.version
        ]
        for variant in variants
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "not scored"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.4g}"
