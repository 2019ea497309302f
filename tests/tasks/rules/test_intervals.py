"""Means with intervals: against the exact bootstrap, published values, and in words."""

import itertools
import math
import statistics
from typing import Final

import numpy as np
import pytest
from scipy import stats

from tasks.rules.intervals import MOST_RESAMPLED, Estimate, estimate, in_words, quantile

MICE = [94, 197, 16, 38, 99, 141, 23]
"""The survival of the treated mice of Efron and Tibshirani, An Introduction to the Bootstrap (1993), table 2.1: its mean is 86.86,
and the bootstrap's standard error, for ever more resamples, 23.36."""


def exact_means(values: list[int]) -> list[tuple[float, float]]:
    """Return every mean that a resample may have, in order, with its probability."""
    count = len(values)
    chances: dict[float, float] = {}
    for drawn in itertools.combinations_with_replacement(range(count), count):
        ways = math.factorial(count)
        for each in set(drawn):
            ways //= math.factorial(drawn.count(each))
        mean = sum(values[each] for each in drawn) / count
        chances[mean] = chances.get(mean, 0) + ways / count**count
    return sorted(chances.items())


def exact_quantile(means: list[tuple[float, float]], part: float) -> float:
    sums = itertools.accumulate(chance for _, chance in means)
    return next(mean for (mean, _), total in zip(means, sums, strict=True) if total >= part)


def test_the_interval_is_that_of_the_exact_bootstrap() -> None:
    means = exact_means(MICE)
    centre = sum(mean * chance for mean, chance in means)
    error = math.sqrt(sum((mean - centre) ** 2 * chance for mean, chance in means))
    assert (round(centre, 2), round(error, 2)) == (86.86, 23.36)  # as published
    for seed in ("a", "b", "c"):
        found = estimate(MICE, seed=seed)
        assert found is not None and found.low is not None and found.high is not None
        assert found.mean == statistics.fmean(MICE)
        # 1,000 resamples find an end of the interval within 4 of 47: three standard errors of a quantile there.
        assert found.low == pytest.approx(exact_quantile(means, 0.025), abs=6)
        assert found.high == pytest.approx(exact_quantile(means, 0.975), abs=6)


KNOWN: dict[str, tuple[list[float], list[float]]] = {
    "mice": (
        list(map(float, MICE)),
        [52, 104, 146, 10, 51, 30, 40],
    ),  # the first seven of the control group of the same table
    "booleans": ([1.0] * 14 + [0.0] * 26, [1.0, 0.0] * 20),
    "skewed": ([math.exp(number / 15) for number in range(60)], [number**2 / 60 for number in range(60)]),
    "many": ([float(number * 37 % 101) for number in range(900)], [float(number * 53 % 97) for number in range(900)]),
}
WITHIN: Final = 0.07
"""Of the width. An end of 1,000 resamples has a standard error of 0.085 standard errors of the mean, so three of them are 0.065."""


@pytest.mark.parametrize("name", KNOWN)
def test_means_and_paired_differences_have_the_intervals_of_scipy(name: str) -> None:
    first, second = KNOWN[name]
    theirs = stats.bootstrap((first,), np.mean, method="percentile", n_resamples=9_999, rng=np.random.default_rng(7))
    paired = stats.bootstrap(
        (first, second),
        lambda one, other, axis: np.mean(other - one, axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=9_999,
        rng=np.random.default_rng(7),
    )
    differences = [other - one for one, other in zip(first, second, strict=True)]
    for values, expected in ((first, theirs.confidence_interval), (differences, paired.confidence_interval)):
        found = estimate(values, seed=name)
        assert found is not None and found.low is not None and found.high is not None
        within = WITHIN * (expected.high - expected.low)
        assert found.mean == pytest.approx(np.mean(values))
        assert found.low == pytest.approx(expected.low, abs=within)
        assert found.high == pytest.approx(expected.high, abs=within)


def test_many_values_have_the_normal_interval_of_scipy() -> None:
    values, _ = KNOWN["many"]
    found = estimate(values, seed="x")
    low, high = stats.norm.interval(0.95, loc=np.mean(values), scale=np.std(values) / math.sqrt(len(values)))
    assert found is not None
    assert [found.low, found.high] == pytest.approx([low, high])
    assert stats.norm.interval(0.95, loc=0, scale=1)[1] == pytest.approx(statistics.NormalDist().inv_cdf(0.975))


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    assert estimate(MICE, seed="x") == estimate(MICE, seed="x")
    assert estimate(MICE, seed="x") != estimate(MICE, seed="y")


def test_many_values_have_the_interval_of_the_normal_distribution_to_which_the_bootstrap_tends() -> None:
    values = [float(number % 10) for number in range(MOST_RESAMPLED)]
    resampled, normal = estimate(values, seed="x"), estimate([*values, 4.5], seed="x")
    assert resampled is not None and normal is not None
    for few, many in ((resampled.low, normal.low), (resampled.high, normal.high)):
        assert few == pytest.approx(many, abs=0.05)
    error = statistics.pstdev([*values, 4.5]) / math.sqrt(len(values) + 1)
    assert normal.high == pytest.approx(4.5 + 1.959964 * error)


def test_few_values_have_no_interval() -> None:
    assert estimate([], seed="x") is None
    assert estimate([0.5], seed="x") == Estimate(mean=0.5, low=None, high=None, cases=1)
    assert estimate([1, 1, 1], seed="x") == Estimate(mean=1, low=1, high=1, cases=3)


def test_a_quantile_lies_between_two_values() -> None:
    """As numpy.quantile's default: of 1, 2, 4, 8 the quartiles are 1.75, 3 and 5."""
    assert [quantile([1, 2, 4, 8], part) for part in (0, 0.25, 0.5, 0.75, 1)] == [1, 1.75, 3, 5, 8]


@pytest.mark.parametrize(
    ("mean", "low", "high", "cases", "text"),
    [
        (0.12, 0.03, 0.21, 50, "B is better by 0.12 (0.03 to 0.21)."),
        (-0.12, -0.21, -0.03, 50, "B is worse by 0.12 (0.03 to 0.21)."),
        (0.05, -0.1, 0.2, 1000, "Not enough cases to tell: B is better by 0.05 (-0.10 to 0.20) in 1,000 cases."),
        (-0.05, -0.2, 0.1, 10, "Not enough cases to tell: B is worse by 0.05 (-0.10 to 0.20) in 10 cases."),
        (0, 0, 0, 10, "A and B have the same score in all 10 cases."),
        (1, 1, 1, 5, "Not enough cases to tell: 5 have scores of A and B, and 6 are needed."),
        (1, None, None, 1, "Not enough cases to tell: 1 has a score of A and B, and 6 are needed."),
    ],
)
def test_the_difference_in_words(mean: float, low: float | None, high: float | None, cases: int, text: str) -> None:
    found = Estimate(mean=mean, low=low, high=high, cases=cases)
    assert in_words(found, first="A", second="B") == text


def test_where_lower_is_better_the_words_are_the_other_way_round() -> None:
    found = Estimate(mean=-0.5, low=-0.75, high=-0.25, cases=10)
    said = in_words(found, first="A", second="B", is_lower_better=True)
    assert said == "B is better by 0.50 (0.25 to 0.75)."
    found = Estimate(mean=0.5, low=0.25, high=0.75, cases=10)
    said = in_words(found, first="A", second="B", is_lower_better=True)
    assert said == "B is worse by 0.50 (0.25 to 0.75)."


def test_without_a_pair_nothing_is_told() -> None:
    assert (
        in_words(None, first="A", second="B") == "Not enough cases to tell: 0 have scores of A and B, and 6 are needed."
    )
