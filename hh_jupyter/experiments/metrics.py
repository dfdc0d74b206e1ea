"""Metrics: what the scores of a run's rows say together, and how scores are written."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, Literal

from hh_jupyter.display import format as fmt
from hh_jupyter.display.row_query import condition
from hh_jupyter.display.table import Distribution
from hh_jupyter.experiments.statistics import Mean, mean

Kind = Literal["yes or no", "number", "label", "seconds", "dollars", "estimated dollars"]

BINS: Final = 12
LABEL_LENGTH: Final = 24
MAX_LABELS: Final = 8
SHOWN_LABELS: Final = 3
EXPLANATIONS: Final = ("_explanation", "_reason", "_rationale")
"""Endings of the names of texts that explain the score of the same name without the ending."""

LARGEST: Final = 1e150
"""Larger numbers count as infinite: their squares have no float."""

ROUNDING: Final = 1e-12
"""Part of a value from which on its standard error is no rounding of floats."""

MINUS: Final = "\N{MINUS SIGN}"
SPACE: Final = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSummary:
    """One metric over the rows of a run.

    Attributes:
        mean: of all numbers but NaN and infinity; None for labels.
        low, high: smallest and largest number.
        scored: number of scores, one for each row or trial, of which `nan` are NaN, and `infinite` too large to add up.
    """

    name: str
    kind: Kind
    mean: Mean | None
    low: float = 0.0
    high: float = 0.0
    scored: int = 0
    nan: int = 0
    infinite: int = 0
    distribution: Distribution | None = None


def mean_of(
    values: Sequence[Any], rows: Sequence[int] | None = None, clusters: Sequence[Hashable] | None = None
) -> Mean | None:
    """The mean of the numbers among these values, and its standard error; None if there is no number.

    Args:
        rows: the row of each value, if there may be several trials of one. Default: each value is another row.
        clusters: the cluster of each value; see `statistics.mean`.
    """
    numbers = [usable_number(value) for value in values]
    known = [number is not None for number in numbers]
    if not any(known):
        return None
    scores = [number for number in numbers if number is not None]
    groups = None if clusters is None else list(itertools.compress(clusters, known))
    if rows is None or len(set(rows)) == len(rows):
        return mean(scores, groups)
    trials: dict[int, list[float]] = {}
    cluster_of: dict[int, Hashable] = {}
    for index, row in enumerate(itertools.compress(rows, known)):
        trials.setdefault(row, []).append(scores[index])
        cluster_of[row] = None if groups is None else groups[index]
    return mean(list(trials.values()), None if groups is None else list(cluster_of.values()))


def finite(values: Iterable[Any]) -> list[float]:
    """The numbers among these values that can be added up: bools and floats. NaN and infinity are left out."""
    return [number for value in values if (number := usable_number(value)) is not None]


def usable_number(value: Any) -> float | None:
    """The value as a bool or float that can be added up; None for NaN, infinity and what is no number."""
    if not isinstance(value, int | float):
        return None
    number = value if isinstance(value, bool) else _float(value)
    return number if -LARGEST <= number <= LARGEST else None


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # An integer of more than 308 digits.
        return math.inf if value > 0 else -math.inf


def kind_of(values: Sequence[Any]) -> Kind:
    """The kind of a metric with these values."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if not numbers:
        return "label"
    return "yes or no" if all(isinstance(value, bool) for value in numbers) else "number"


def summarize(
    name: str, values: Sequence[Any], rows: Sequence[int] | None = None, clusters: Sequence[Hashable] | None = None
) -> MetricSummary | None:
    """The summary of a metric; None if it has no numbers and is not a few labels.

    Args:
        rows, clusters: as in `mean_of`.
    """
    kind, numbers = kind_of(values), finite(values)
    found = mean_of(values, rows, clusters)
    if kind == "label":
        return _labels(name, [value for value in values if isinstance(value, str)])
    scored = sum(isinstance(value, int | float) for value in values)
    nan = sum(value != value for value in values)
    return MetricSummary(
        name=name,
        kind=kind,
        mean=found,
        low=min(numbers, default=0.0),
        high=max(numbers, default=0.0),
        scored=scored,
        nan=nan,
        infinite=scored - nan - len(numbers),
        distribution=_yes_no(name, numbers, found) if kind == "yes or no" else _bins(name, numbers, found),
    )


def _labels(name: str, values: Sequence[str]) -> MetricSummary | None:
    counted = Counter(values)
    if not counted or len(counted) > MAX_LABELS or not all(is_label(name, value) for value in counted):
        return None
    common = counted.most_common(SHOWN_LABELS)
    labels = [f"{label} {times:,}" for label, times in common]
    if len(counted) > len(common):
        labels.append(f"{len(counted) - len(common)} more")
    distribution = Distribution(
        kind="labels",
        shares=[times / len(values) for _, times in common],
        labels=labels,
        queries=[condition(name, "=", label) for label, _ in common],
    )
    return MetricSummary(name=name, kind="label", mean=None, scored=len(values), distribution=distribution)


def _yes_no(name: str, numbers: Sequence[float], found: Mean | None) -> Distribution | None:
    if not numbers:
        return None
    yes = sum(map(bool, numbers))
    return Distribution(
        shares=[fmean(numbers)],
        kind="yes_no",
        ends=(f"{yes:,} yes", f"{len(numbers) - yes:,} no"),
        queries=[condition(name, "=", "yes"), condition(name, "=", "no")],
        mean=fmean(numbers),
        error=None if found is None else found.error,
    )


def _bins(name: str, numbers: Sequence[float], found: Mean | None) -> Distribution | None:
    if not numbers:
        return None
    low, high = min(numbers), max(numbers)
    width = (high - low) / BINS
    if not (width > 0 and math.isfinite(width)):
        return Distribution(shares=[1.0], ends=(number(low), ""), queries=[condition(name, "=", f"{low:.10g}")])
    counts = [0] * BINS
    for value in numbers:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    edges = [f"{low + index * width:.10g}" for index in range(BINS)]
    bounds = zip(edges, [*edges[1:], None], strict=True)
    return Distribution(
        shares=[count / len(numbers) for count in counts],
        ends=(number(low), number(high)),
        queries=[
            " ".join([condition(name, ">=", start), *([condition(name, "<", end)] if end is not None else [])])
            for start, end in bounds
        ],
        mean=None if found is None else (found.value - low) / (high - low),
        error=None if found is None or found.error is None else found.error / (high - low),
    )


# Texts among the scores


LABEL: Final = "_label"
"""Ending of the name of a label that says in words what the score of the same name without the ending says."""


def names_a_score(name: str, values: Iterable[Any], names: Container[str]) -> bool:
    """Whether a metric with these values is the label of another one, such as that of a judge."""
    if not name.endswith(LABEL) or name.removesuffix(LABEL) not in names:
        return False
    return all(isinstance(value, str | None) for value in values)


def scores_and_labels(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The names of the scores in the metrics of these rows, and apart from them the names of labels beside a score."""
    known: dict[str, None] = {}
    for metrics in rows:
        known |= {name: None for name, value in metrics.items() if name not in known and is_score(name, value)}
    labels = [name for name in known if names_a_score(name, (metrics.get(name) for metrics in rows), known)]
    return [name for name in known if name not in labels], labels


def is_label(name: str, value: str) -> bool:
    """Whether a text score is a short label, not an explanation."""
    return len(value) <= LABEL_LENGTH and "\n" not in value and not name.endswith(EXPLANATIONS)


def is_score(name: str, value: Any) -> bool:
    """Whether a value is a number or a label. Explanations may quote inputs and outputs."""
    return is_label(name, value) if isinstance(value, str) else value is not None


def explanations(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(metric, text) of each explanation among the metrics of a row."""
    found = []
    for name, value in metrics.items():
        if isinstance(value, str) and value and not is_label(name, value):
            ending = next((ending for ending in EXPLANATIONS if name.endswith(ending)), "")
            found.append((name.removesuffix(ending) or name, value))
    return found


# How scores are written


def number(value: float) -> str:
    """Format a number: `0.8125`, `12`, `1,204`, `3.1e-07`, `NaN`."""
    value = value if isinstance(value, int) and abs(value) < 10**15 else _float(value)
    if not math.isfinite(value):
        return "NaN" if value != value else f"{MINUS if value < 0 else ''}infinite"
    if value == int(value) and abs(value) < 1e15:
        return _minus(f"{int(value):,}")
    return _minus(f"{value:,.1f}" if 1_000 <= abs(value) < 1e15 else f"{value:.4g}")


def score_text(metrics: Mapping[str, Any], name: str) -> str:
    """Format a score; empty if there is none."""
    value = metrics.get(name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) and is_label(name, value) else ""


def label_text(metrics: Mapping[str, Any], name: str) -> str:
    """The label beside a score; empty if there is none, or if it only repeats the score, such as `yes`."""
    label = score_text(metrics, name + LABEL)
    return "" if label.casefold() == score_text(metrics, name).casefold() else label


def value_text(value: float, kind: Kind, error: float | None = None, *, signed: bool = False) -> str:
    """Format a value of this kind: `81 %`, `0.812`, `1.24 s`, `~$0.00060`, with `signed` `+8 points`, `0`, `+$0.00012`.

    Args:
        error: the standard error, which decides how many digits are shown.
    """
    sign = "" if not signed or not value else "+" if value > 0 else MINUS
    size = abs(value) if signed else value
    error = 0.0 if error is None or _is_rounding(error, value) else error
    match kind:
        case "seconds":
            return _signed(sign, fmt.duration(round(size * 1e9)), "0 ms")
        case "dollars" | "estimated dollars":
            return sign + _dollars(size, estimated=kind != "dollars" and not signed)
        case "yes or no":
            shown = f"{size * 100:.{1 if error and error < 0.01 else 0}f}"
            return sign + shown + (" points" if signed else f"{SPACE}%")
    shown = number(size) if not error else f"{size:,.{_digits(error)}f}" if error < 1e15 else f"{size:.4g}"
    return sign + _minus(shown)


def error_text(mean: Mean | None, kind: Kind) -> str:
    """Format a standard error: `± 6.5`; empty if there is none."""
    if mean is None or mean.error is None:
        return ""
    if _is_rounding(mean.error, mean.value):
        return "± 0"
    if kind == "yes or no":
        return f"± {mean.error * 100:.1f}"
    if kind in ("seconds", "dollars", "estimated dollars"):
        return f"± {value_text(mean.error, 'seconds' if kind == 'seconds' else 'dollars')}"
    return f"± {value_text(mean.error, kind, mean.error)}"


def _is_rounding(error: float, value: float) -> bool:
    """Whether the standard error of a value is zero, but for the rounding of floats."""
    return error <= abs(value) * ROUNDING


def within_text(mean: Mean | None, kind: Kind) -> str:
    """Format the spread of the trials of a row: `0.04`, for yes or no in points `12`; empty without trials."""
    if mean is None or mean.within is None:
        return ""
    return f"{mean.within * 100:.0f}" if kind == "yes or no" else number(float(f"{mean.within:.2g}"))


def _signed(sign: str, text: str, zero: str) -> str:
    """The text with its sign; zero for a signed duration that is too short to be shown."""
    return zero if sign and "<" in text else sign + text


def _dollars(amount: float, *, estimated: bool) -> str:
    """An amount; of a small one, which `fmt.usd` shows as `<$0.0001`, two digits: means and differences are smaller."""
    if 0 < amount < 0.001:
        return f"{'~' if estimated else ''}${amount:.{_digits(amount)}f}"
    return fmt.usd(amount, estimated=estimated)


def _digits(error: float) -> int:
    """Decimals with which a standard error has two digits."""
    return min(12, max(0, 1 - math.floor(math.log10(error))))


def _minus(text: str) -> str:
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
