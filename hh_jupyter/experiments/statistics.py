"""What can be told from the scores of a run: means with their errors, and the difference of two runs with its interval.

Formulas of Miller (2024), "Adding error bars to evals" (arXiv 2411.00640), and for yes-or-no metrics of Agresti and Min
(2005), "Simple improved confidence intervals for comparing matched proportions". Scores are real numbers or bools. NaN
and infinity are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
"""How often an interval contains the true difference."""

FEWEST_PAIRS: Final = 20
"""With fewer pairs a difference has no verdict: displays show counts only."""

_EXACT_BELOW: Final = 100
"""Degrees of freedom from which the expansion of Student's quantile is exact to 9 digits."""


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a metric.

    Attributes:
        value: mean of the rows; NaN without a row.
        error: its standard error over rows; None below two rows or clusters.
        n: number of rows.
        within: standard deviation of repeated trials within a row, pooled over rows; None without repeated trials.
    """

    value: float
    error: float | None
    n: int
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of the differences of pairs, new minus old.

    Attributes:
        value: mean of the differences; NaN without a pair.
        low, high: ends of the 95 % interval; None below two pairs or clusters.
        n: number of pairs.
        larger, smaller: number of pairs whose new score is larger, smaller.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    larger: int
    smaller: int

    @property
    def is_clear(self) -> bool:
        """Whether there are enough pairs and the interval does not contain zero."""
        if self.n < FEWEST_PAIRS or self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0

    def verdict(self, *, lower_is_better: bool = False) -> str:
        """`better`, `worse`, or that no difference can be told; empty below `FEWEST_PAIRS` pairs."""
        if self.n < FEWEST_PAIRS or self.low is None:
            return ""
        if not self.is_clear:
            return f"no difference can be told from n = {self.n}"
        return "better" if (self.value > 0) is not lower_is_better else "worse"


def mean(rows: Iterable[float | Sequence[float]], clusters: Sequence[Hashable] | None = None) -> Mean:
    """The mean over rows, with its standard error.

    Args:
        rows: a score for each row, or the scores of its trials, whose mean then counts as the row's score.
        clusters: for each row the group whose rows depend on each other, such as questions about one document.
    """
    scores: list[float] = []
    groups: list[Hashable] = []
    repeated: list[Sequence[float]] = []
    for row, cluster in zip(rows, _clusters(clusters), strict=False):
        trials = None if isinstance(row, int | float) else [float(one) for one in row if math.isfinite(one)]
        score = float(row) if isinstance(row, int | float) else _average(trials or ())
        if math.isfinite(score):
            scores.append(score)
            groups.append(cluster)
            repeated += [trials] if trials else []
    value = _average(scores)
    return Mean(
        value, _standard_error(scores, value, groups if clusters is not None else None), len(scores), _within(repeated)
    )


def paired_difference(
    old: Sequence[float], new: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Difference:
    """The mean difference of two runs over the same data points, with its 95 % interval.

    A t-interval of the differences, over clusters if they are given. Scores that are all bools get the interval of
    Agresti and Min instead, since a t-interval covers far less than it says for few pairs or rare changes.

    Args:
        old, new: scores of both runs, in the same order and of the same length.
        clusters: as in `mean`.
    """
    known = [math.isfinite(before) and math.isfinite(after) for before, after in zip(old, new, strict=False)]
    old, new = list(itertools.compress(old, known)), list(itertools.compress(new, known))
    differences = [after - before for before, after in zip(old, new, strict=True)]
    n, value = len(differences), _average(differences)
    larger, smaller = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    groups = list(itertools.compress(clusters, known)) if clusters is not None else None
    if n < 2:
        return Difference(value, None, None, n, larger, smaller)
    if groups is None and all(isinstance(score, bool) for scores in (old, new) for score in scores):
        low, high = agresti_min(larger, smaller, n)
        return Difference(value, low, high, n, larger, smaller)
    error = _standard_error(differences, value, groups)
    if error is None:
        return Difference(value, None, None, n, larger, smaller)
    freedom = (n if groups is None else len(set(groups))) - 1
    margin = student_t(freedom) * error
    return Difference(value, value - margin, value + margin, n, larger, smaller)


def agresti_min(better: int, worse: int, n: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired proportions, within -1 and 1.

    Args:
        better, worse: number of pairs that changed from no to yes, from yes to no.
        n: number of pairs.
    """
    total, gained, lost = n + 2, better + 0.5, worse + 0.5
    value = (gained - lost) / total
    error = math.sqrt(gained + lost - (gained - lost) ** 2 / total) / total
    margin = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return max(-1.0, value - margin), min(1.0, value + margin)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t for which a variable with Student's distribution lies within -t and t with this probability.

    The finite sums and the expansion of Abramowitz and Stegun, 26.7.3 to 26.7.5 and 26.7.8.

    Args:
        freedom: degrees of freedom, 1 or more.
        confidence: the probability, above 0 and below 1.
    """
    if freedom >= _EXACT_BELOW:
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        terms = (
            z,
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        )
        return math.fsum(term / freedom**power for power, term in enumerate(terms))
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # Halves the interval to the precision of a float.
        middle = (low + high) / 2
        low, high = (middle, high) if _probability_within(middle, freedom) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _probability_within(theta: float, freedom: int) -> float:
    """The probability of lying within -t and t, where t is `tan(theta) * sqrt(freedom)`."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for number in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * number / (number + 1)
    return 2 / math.pi * (theta + sine * total) if odd else sine * total


def _clusters(clusters: Sequence[Hashable] | None) -> Iterable[Hashable]:
    return itertools.repeat(None) if clusters is None else clusters


def _average(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores) if scores else math.nan


def _standard_error(scores: Sequence[float], value: float, clusters: Sequence[Hashable] | None) -> float | None:
    """The standard error of the mean `value`; over clusters, rows of one may depend on each other."""
    n = len(scores)
    if clusters is None:
        return math.sqrt(math.fsum((score - value) ** 2 for score in scores) / (n - 1) / n) if n > 1 else None
    sums: dict[Hashable, float] = {}
    for score, cluster in zip(scores, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + score - value
    return math.sqrt(math.fsum(one**2 for one in sums.values())) / n if len(sums) > 1 else None


def _within(rows: Sequence[Sequence[float]]) -> float | None:
    freedom = sum(len(row) - 1 for row in rows)
    if not freedom:
        return None
    squares = math.fsum((score - average) ** 2 for row in rows for average in (_average(row),) for score in row)
    return math.sqrt(squares / freedom)
