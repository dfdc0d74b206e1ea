"""How the scores of a metric lie: aggregate, spread, range, distribution, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, Final

from hh_jupyter.display.runs.view import Distribution, MetricView
from hh_jupyter.experiments.results import AGGREGATES, ExperimentResultSummary

BINS: Final = 12
LABEL_LENGTH: Final = 24
MOST_LABELS: Final = 8
SHOWN_LABELS: Final = 3
EXPLANATION: Final = "_explanation"


def metric_views(result: ExperimentResultSummary) -> list[MetricView]:
    """Every metric of numbers, yes and no, or a few labels; what the backend counted comes first."""
    details = result.metrics.get_all_metrics()
    values: dict[str, list[Any]] = {}
    for row in result.rows:
        for name, value in row.metrics.items():
            values.setdefault(name, []).append(value)
    views = []
    for name in dict.fromkeys([*details, *values]):
        detail = details.get(name)
        found = values.get(name) or list(detail.values if detail is not None else ())
        known = detail.aggregate if detail is not None else None
        view = _view(name, found, known, result.metrics.aggregation_function)
        if view is not None:
            views.append(view)
    return views


def is_label(name: str, value: str) -> bool:
    """A short text that classifies, and not one that explains."""
    return len(value) <= LABEL_LENGTH and "\n" not in value and not name.endswith(EXPLANATION)


def number(value: float) -> str:
    """`0.8125`, `12`, `1,204`, `3.1e-07`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _view(name: str, values: Sequence[Any], known: Any, function: str) -> MetricView | None:
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if not numbers:
        return _known_only(name, known) if not values else _of_labels(name, [v for v in values if isinstance(v, str)])
    aggregate = AGGREGATES.get(function)
    value = known if isinstance(known, int | float) else aggregate(numbers) if aggregate is not None else None
    yes_no = all(isinstance(value, bool) for value in numbers)
    return MetricView(
        name=name,
        value="-" if value is None else number(value),
        spread=_spread(numbers, yes_no=yes_no),
        range="" if yes_no else f"{number(min(numbers))} to {number(max(numbers))}",
        count=f"{len(numbers):,}",
        distribution=_yes_no(numbers) if yes_no else _bins(numbers),
    )


def _known_only(name: str, known: Any) -> MetricView | None:
    if known is None:
        return None
    value = number(known) if isinstance(known, int | float) else str(known)[:LABEL_LENGTH]
    return MetricView(name=name, value=value, spread="", range="", count="", distribution=None)


def _of_labels(name: str, values: Sequence[str]) -> MetricView | None:
    counted = Counter(values)
    if not counted or len(counted) > MOST_LABELS or not all(is_label(name, value) for value in counted):
        return None
    common = counted.most_common(SHOWN_LABELS)
    labels = [f"{label} {times:,}" for label, times in common]
    if len(counted) > len(common):
        labels.append(f"{len(counted) - len(common)} more")
    shares = [times / len(values) for _, times in common]
    distribution = Distribution(low="", high="", shares=shares, kind="labels", labels=labels)
    return MetricView(name=name, value="", spread="", range="", count=f"{len(values):,}", distribution=distribution)


def _spread(numbers: Sequence[float], *, yes_no: bool) -> str:
    if yes_no:
        return f"{sum(numbers):,.0f} of {len(numbers):,}"
    return f"± {number(stdev(numbers))}" if len(numbers) > 1 else ""


def _yes_no(numbers: Sequence[float]) -> Distribution:
    return Distribution(low="no", high="yes", shares=[fmean(numbers)], kind="yes_no")


def _bins(numbers: Sequence[float]) -> Distribution:
    low, high = min(numbers), max(numbers)
    width = (high - low) / BINS
    if not (width > 0 and math.isfinite(width)):
        return Distribution(low=number(low), high=number(high), shares=[1.0])
    counts = [0] * BINS
    for value in numbers:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    return Distribution(low=number(low), high=number(high), shares=[count / len(numbers) for count in counts])
