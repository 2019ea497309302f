"""Means of scores and their confidence intervals, and the difference of two variants in words. Pure, and the same each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist, fmean, pstdev
from typing import Final

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 1_000
MOST_RESAMPLED: Final = 300
"""The number of cases from which the interval is that of the normal distribution, to which the bootstrap's tends: it takes no longer for more."""
FEWEST: Final = 6
"""The number of pairs below which nothing is told: five that all differ in one direction do so by chance once in 16 times (2 · 2⁻⁵), six once in 32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over `cases`, and the ends of its interval at a confidence of 95 %; None with fewer than two cases."""

    mean: float
    low: float | None
    high: float | None
    cases: int


def estimate(values: Sequence[float], *, seed: str) -> Estimate | None:
    """Return the mean and its interval by the percentile bootstrap, the same for each seed; None without values."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean=mean, low=None, high=None, cases=len(values))
    tail = (1 - CONFIDENCE) / 2
    if len(values) > MOST_RESAMPLED:
        width = NormalDist().inv_cdf(1 - tail) * pstdev(values) / len(values) ** 0.5
        return Estimate(mean=mean, low=mean - width, high=mean + width, cases=len(values))
    draw = Random(seed).choices  # noqa: S311  (no secret: it has to repeat)
    count = len(values)
    means = sorted(sum(draw(values, k=count)) / count for _ in range(RESAMPLES))
    return Estimate(mean=mean, low=quantile(means, tail), high=quantile(means, 1 - tail), cases=count)


def quantile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which this part of the ordered values lies, with linear interpolation between two of them."""
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def in_words(difference: Estimate | None, *, first: str, second: str, is_lower_better: bool = False) -> str:
    """Say whether `second` is better or worse than `first`: by the mean of (second - first) over the cases that both have a score of."""
    if difference is None or difference.cases < FEWEST or difference.low is None or difference.high is None:
        cases = difference.cases if difference else 0
        return f"Not enough cases to tell: {cases} {'has a score' if cases == 1 else 'have scores'} of {first} and {second}, and {FEWEST} are needed."
    if difference.low == difference.high == 0:
        return f"{first} and {second} have the same score in all {difference.cases:,} cases."
    is_higher = difference.mean >= 0
    is_better = is_higher != is_lower_better
    low, high = (difference.low, difference.high) if is_higher else (-difference.high, -difference.low)
    found = f"{second} is {'better' if is_better else 'worse'} by {abs(difference.mean):.2f} ({low:.2f} to {high:.2f})"
    if difference.low <= 0 <= difference.high:
        return f"Not enough cases to tell: {found} in {difference.cases:,} cases."
    return f"{found}."
