"""Experiments: run a function over a dataset and score its outputs. The entry point is `evaluate`."""

from __future__ import annotations

from hh_jupyter.experiments import comparison, comparison_view, results, views
from hh_jupyter.experiments.comparison import compare_runs
from hh_jupyter.experiments.evaluation import aevaluate, evaluate
from hh_jupyter.experiments.evaluators import aevaluator, evaluator
from hh_jupyter.experiments.judges import judge
from hh_jupyter.experiments.results import ExperimentResultSummary, RunComparisonResult
from hh_jupyter.experiments.runs import HoneyHive, get_run_result

# These modules import `results`, so `results` cannot import them.
results.ResultExtensions.reports = {
    ExperimentResultSummary: views.result_report,
    RunComparisonResult: comparison_view.comparison_report,
}
results.ResultExtensions.live = {
    ExperimentResultSummary: views.live_result,
    RunComparisonResult: comparison_view.live_comparison,
}
results.ResultExtensions.save = staticmethod(views.save_result)
results.ResultExtensions.compare = staticmethod(comparison.compare_results)

__all__ = [
    "ExperimentResultSummary",
    "HoneyHive",
    "RunComparisonResult",
    "aevaluate",
    "aevaluator",
    "compare_runs",
    "evaluate",
    "evaluator",
    "get_run_result",
    "judge",
]
