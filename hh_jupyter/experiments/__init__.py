"""Experiments: a function over a dataset, scored. `evaluate` is what people call."""

from __future__ import annotations

from hh_jupyter.experiments import comparison, results, views
from hh_jupyter.experiments.comparison import compare_runs
from hh_jupyter.experiments.evaluation import evaluate
from hh_jupyter.experiments.evaluators import aevaluator, evaluator
from hh_jupyter.experiments.results import ExperimentResultSummary, RunComparisonResult
from hh_jupyter.experiments.runs import HoneyHive, get_run_result

# What a result shows and compares itself with is above it, so it is handed down here.
results.Above.renderer, results.Above.comparer = views, comparison

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
