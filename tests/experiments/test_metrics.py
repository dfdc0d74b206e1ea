"""Numbers of a run as people read them: digits by the standard error, shares in percent, and nothing that cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hh_jupyter.experiments.metrics import Kind, explanations, mean_of, number, summarize, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8125, "0.8125"), (12, "12"), (12.0, "12"), (1204, "1,204"), (1204.56, "1,204.6"), (3.1e-07, "3.1e-07"),
        (-0.5, "\N{MINUS SIGN}0.5"), (math.nan, "NaN"), (math.inf, "infinite"),
        (-math.inf, "\N{MINUS SIGN}infinite"), (10**400, "infinite"), (10**20, "1e+20"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_an_integer_that_python_does_not_print_is_infinite() -> None:
    assert number(-(10**5_000)) == "\N{MINUS SIGN}infinite"


@pytest.mark.parametrize(
    ("value", "kind", "error", "text"),
    [
        (0.8108, "yes or no", 0.065, "81\N{NO-BREAK SPACE}%"),
        (0.8108, "yes or no", 0.0042, "81.1\N{NO-BREAK SPACE}%"),
        (1.0, "yes or no", 0.0, "100\N{NO-BREAK SPACE}%"),
        (0.80691, "number", 0.0261, "0.807"),
        (38.24, "number", 1.04, "38.2"),
        (38.24, "number", 12.0, "38"),
        (38.25, "number", 0.0, "38.25"),
        (38.25, "number", None, "38.25"),
        (38.25, "number", 1e-15, "38.25"),
        (2 / 3, "yes or no", 1e-17, "67\N{NO-BREAK SPACE}%"),
        (1.239, "seconds", 0.1, "1.24 s"),
        (0.0123, "estimated dollars", 0.0001, "~$0.012"),
        (0.0006, "estimated dollars", 0.0001, "~$0.00060"),
        (0.0000123, "dollars", None, "$0.000012"),
        (0.0, "dollars", None, "$0"),
    ],
)
def test_the_standard_error_decides_how_many_digits_a_mean_has(
    value: float, kind: Kind, error: float | None, text: str
) -> None:
    assert value_text(value, kind, error) == text


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.08, "yes or no", "+8 points"),
        (-0.03, "yes or no", "\N{MINUS SIGN}3 points"),
        (0.0, "number", "0"),
        (-19, "number", "\N{MINUS SIGN}19"),
        (-0.095, "seconds", "\N{MINUS SIGN}95 ms"),
        (-0.00001, "seconds", "0 ms"),
        (0.00001, "dollars", "+$0.000010"),
        (-0.000123, "estimated dollars", "\N{MINUS SIGN}$0.00012"),
        (0.0, "dollars", "$0"),
    ],
)
def test_differences_have_a_sign(value: float, kind: Kind, text: str) -> None:
    assert value_text(value, kind, signed=True) == text


def test_nan_and_infinite_scores_are_counted_and_in_no_mean() -> None:
    summary = summarize("m", [1.0, math.nan, 3, math.inf, 1e300, 10**400, True])
    assert summary is not None
    assert summary.mean is not None
    assert summary.mean.value == pytest.approx(5 / 3)
    assert summary.mean.n == 3
    assert (summary.scored, summary.nan, summary.infinite) == (7, 1, 3)
    assert (summary.low, summary.high) == (1, 3)
    assert mean_of([math.nan, "text", None]) is None


def test_a_metric_of_only_nan_has_a_row_without_numbers() -> None:
    summary = summarize("m", [math.nan, math.nan])
    assert summary is not None
    assert (summary.mean, summary.scored, summary.nan, summary.distribution) == (None, 2, 2, None)


@pytest.mark.parametrize(
    ("values", "kind"), [([True, False], "yes or no"), ([True, 0.5], "number"), (["good", "bad"], "label")]
)
def test_the_kind_of_a_metric_follows_from_its_values(values: list[Any], kind: Kind) -> None:
    summary = summarize("m", values)
    assert summary is not None
    assert summary.kind == kind


def test_long_or_many_texts_are_no_labels() -> None:
    assert summarize("m", ["a long sentence about the answer"]) is None
    assert summarize("m", [str(n) for n in range(9)]) is None
    assert summarize("m_reason", ["short"]) is None


def test_explanations_belong_to_the_score_of_the_same_name() -> None:
    metrics = {
        "a": 0.5,
        "a_explanation": "because",
        "b_reason": "why",
        "c_label": "good",
        "d": "text " * 9,
        "e_reason": "",
    }
    assert explanations(metrics) == [("a", "because"), ("b", "why"), ("d", "text " * 9)]
