"""Experiments: a function over a dataset, scored. `evaluate` is what people call."""

from __future__ import annotations

from hh_jupyter.experiments.client import HoneyHive
from hh_jupyter.experiments.comparison import RunComparisonResult, compare_runs
from hh_jupyter.experiments.evaluators import aevaluator, evaluator
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.run import get_run_result
from hh_jupyter.experiments.runner import evaluate

__all__ = [
    "ExperimentResultSummary",
    "HoneyHive",
    "RunComparisonResult",
    "aevaluator",
    "compare_runs",
    "evaluate",
    "evaluator",
    "get_run_result",
]
