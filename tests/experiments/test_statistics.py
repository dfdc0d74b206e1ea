"""Errors of means and intervals of differences, against scipy and statsmodels."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hh_jupyter.experiments.statistics import Difference, agresti_min, mean, paired_difference, student_t

SCORES = st.lists(st.floats(-1000, 1000, allow_nan=False), min_size=2, max_size=60)


def close(value: float | None, expected: float, scale: float = 1.0) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=1e-7, abs_tol=1e-9 * max(1.0, scale))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [*range(1, 12), 30, 99, 100, 101, 1000, 100_000])
def test_students_quantile_is_that_of_scipy(freedom: int, confidence: float) -> None:
    assert close(student_t(freedom, confidence), float(stats.t.ppf((1 + confidence) / 2, freedom)))


@given(SCORES)
def test_a_mean_has_the_standard_error_of_scipy(scores: list[float]) -> None:
    found = mean(scores)
    assert close(found.value, float(np.mean(scores)), 1000)
    assert close(found.error, float(stats.sem(scores)), 1000)
    assert (found.n, found.within) == (len(scores), None)


@given(SCORES, st.integers(0, 10**6).map(random.Random))
def test_a_difference_has_the_interval_of_a_paired_t_test(old: list[float], seeded: random.Random) -> None:
    new = [score + seeded.gauss(1, 2) for score in old]
    found = paired_difference(old, new)
    differences = np.subtract(new, old)
    error = float(stats.sem(differences))
    low, high = stats.t.interval(0.95, len(old) - 1, loc=differences.mean(), scale=error)
    assert close(found.low, float(low), 1000)
    assert close(found.high, float(high), 1000)


@given(st.integers(2, 8), st.integers(8, 60), st.integers(0, 10**6).map(random.Random))
def test_an_interval_over_clusters_is_that_of_a_cluster_robust_regression(
    groups: int, n: int, seeded: random.Random
) -> None:
    clusters = [*range(groups), *(seeded.randrange(groups) for _ in range(n))]
    old = [seeded.gauss(0, 1) for _ in clusters]
    new = [score + cluster / 5 + seeded.gauss(0, 1) for score, cluster in zip(old, clusters, strict=True)]
    differences = np.subtract(new, old)
    fit = sm.OLS(differences, np.ones(len(old))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(clusters), "use_correction": False}, use_t=True
    )
    margin = float(stats.t.ppf(0.975, groups - 1)) * float(fit.bse[0])
    found = paired_difference(old, new, clusters)
    assert close(found.low, float(differences.mean()) - margin)
    assert close(found.high, float(differences.mean()) + margin)
    assert close(mean(list(differences), clusters).error, float(fit.bse[0]))


def test_yes_or_no_differences_have_an_interval_that_covers_what_it_says() -> None:
    """Where a t-interval covers 40 % at n = 5, by exact enumeration of the multinomial distribution."""
    for n, gain, loss in ((5, 0.05, 0.05), (5, 0.3, 0.1), (20, 0.02, 0.05), (20, 0.3, 0.1), (50, 0.1, 0.1)):
        covered = 0.0
        for better in range(n + 1):
            for worse in range(n + 1 - better):
                low, high = agresti_min(better, worse, n)
                if low <= gain - loss <= high:
                    outcome = (better, worse, n - better - worse)
                    covered += float(stats.multinomial.pmf(outcome, n, (gain, loss, 1 - gain - loss)))
        assert covered >= 0.94, (n, gain, loss, covered)


def test_bools_get_the_interval_of_paired_proportions_and_numbers_do_not() -> None:
    old, new = [True] * 10 + [False] * 20, [False] * 2 + [True] * 28
    found = paired_difference(old, new)
    assert (found.larger, found.smaller, found.n) == (20, 2, 30)
    assert (found.low, found.high) == agresti_min(20, 2, 30)
    assert paired_difference([float(one) for one in old], [float(one) for one in new]).low != found.low
    # Worked by hand: with b = 20.5, c = 2.5, n = 32: 18/32 and sqrt(23 - 324/32)/32 * 1.959964.
    assert found.low == pytest.approx(0.5625 - 1.959964 * math.sqrt(23 - 10.125) / 32, abs=1e-6)


def test_scores_that_are_not_finite_are_left_out_with_their_pair() -> None:
    nan = math.nan
    assert mean([1.0, nan, 3.0, math.inf]).value == 2.0
    found = paired_difference([1.0, 2.0, nan, 4.0], [2.0, nan, 3.0, 6.0], ["a", "b", "c", "d"])
    assert (found.n, found.value) == (2, 1.5)


def test_too_few_rows_have_no_error_and_no_verdict() -> None:
    assert mean([]).n == 0
    assert math.isnan(mean([]).value)
    assert mean([0.5]).error is None
    assert paired_difference([], []).low is None
    assert paired_difference([1.0], [2.0]).verdict() == ""
    assert paired_difference([1.0] * 30, [2.0] * 30, ["one"] * 30).low is None
    assert paired_difference([0.0] * 19, [1.0 + n for n in range(19)]).verdict() == ""


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "verdict"),
    [
        (0.1, 0.3, False, "better"),
        (0.1, 0.3, True, "worse"),
        (-0.3, -0.1, False, "worse"),
        (-0.3, -0.1, True, "better"),
        (-0.1, 0.3, False, "no difference can be told from n = 36"),
        (0.0, 0.0, False, "no difference can be told from n = 36"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(low: float, high: float, lower_is_better: bool, verdict: str) -> None:
    difference = Difference((low + high) / 2, low, high, n=36, larger=1, smaller=1)
    assert difference.verdict(lower_is_better=lower_is_better) == verdict


def test_trials_of_a_row_count_as_one_row_and_their_spread_stands_beside_it() -> None:
    found = mean([[1.0, 3.0], [5.0, 5.0], [4.0, 8.0]])
    assert found.n == 3
    assert found.value == pytest.approx(13 / 3)
    assert found.error == pytest.approx(float(stats.sem([2.0, 5.0, 6.0])))
    assert found.within == pytest.approx(math.sqrt((2 + 0 + 8) / 3))
